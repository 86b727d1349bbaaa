"""Action trajectories, the policy contract, and the algorithms that decode actions.

One word per thing, in all of hotloop:

- *control step*: one action is due. *horizon* H: the control steps of a plan or window. *chunk*:
  Ta actions that are executed together (``num_execute``). *plan*: an `ActionTrajectory`, what a
  policy answers with. *row*: one robot or environment of several.
- *call*: one forward of a network. ``calls_per_step`` network calls make one plan, null for as many
  as there are levels; a token decoder makes at most ``max_calls``. Counts of them are
  ``num_calls``.
- *level*: index of noise, 0 clean to N = ``num_levels`` pure. A *denoising step* goes from one
  level to a lower one. *ladder*: the levels along a rolling buffer, h chunks apart by
  ``levels_per_step`` = N / h. *buffer*: the window that streaming keeps from plan to plan; *start*:
  where an episode's first one comes from.
- *draft*: where a planner's denoising starts. *return-to-go*: the return that is asked for from a
  step on. *goal segments*: parts of an episode that lead to one goal. *hindsight goals*: states
  that were reached, taken for goals. *value guidance*: steps up the gradient of a learned value.
- *program*: what a policy computes, as network calls on named memory; *engine*: what runs it.
- *replay*: recorded actions of a dataset again in a simulator, and nothing else.
- On a robot: *fault*: something is wrong with it. *gap*: control cycles that were lost. *yield*:
  after a fault the command goes to where the robot is. *health*: what servos tell about
  themselves. *release*: torque off on purpose. *stop input*: what stops it without a terminal.
  *frame*: what was measured and asked for at one time of a recording. *leader*: an arm that a
  person moves and a robot follows. *intervention*: a person in command in the middle of a policy's
  rollout.
- Frames of coordinates are written ``x_in_y``, counts ``num_*``, units in square brackets.

Letters in shapes and formulas: R rows, B training batch, H horizon, D action size, O size of a
frame or state, To observation steps, Ta executed steps, N noise levels, h chunks, V vocabulary, n
tokens of a block. x noisy actions, x0 clean actions, f network output, z or eps standard normal
noise, a and s the shares of signal and noise, ``a_k = sqrt(alpha_bar_k)`` and
``s_k = sqrt(1 - alpha_bar_k)``. In networks W width, E and F features, L tokens of a sequence;
in planners T frames of a window, A action size, P features of a position, G of a goal, Q of what a
draft heads for. Comments and einops patterns write the same letters small: ``# (b, h, d)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .plumbing.lazy import lazily

if TYPE_CHECKING:
    from .executor import Executor, NotReady
    from .interface import ActionSpec, Observation, ObservationSpec, Observing, Policy
    from .trajectory import ActionTrajectory

__all__ = [
    "ActionSpec",
    "ActionTrajectory",
    "Executor",
    "NotReady",
    "Observation",
    "ObservationSpec",
    "Observing",
    "Policy",
]

__getattr__ = lazily(
    __name__,
    {
        "executor": (
            "Executor",
            "NotReady",
        ),
        "interface": (
            "ActionSpec",
            "Observation",
            "ObservationSpec",
            "Observing",
            "Policy",
        ),
        "trajectory": ("ActionTrajectory",),
    },
)
