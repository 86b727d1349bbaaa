"""What commands on token policies begin with: such a policy, and recordings that it can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...policies.checkpoint import Checkpoint
    from ...policies.vla.model import VlaModel
    from ..data.episodes import Episodes
    from ..data.windows import Windows


def load_token_policy(name: str) -> Checkpoint:
    """A checkpoint by name or path whose model is a `VlaModel`.

    Raises:
        ValueError: If it is another kind of policy.
    """
    from ...policies.vla.model import VlaModel
    from ..config.lerobot import ANY_PERIOD, LeRobotConfig, load

    checkpoint = load(name, LeRobotConfig(), ANY_PERIOD)
    if not isinstance(checkpoint.model, VlaModel):
        raise ValueError(f"{name} is no vision-language policy; only those decode tokens")
    return checkpoint


def recorded_windows(model: VlaModel, dataset: str) -> tuple[Windows, Episodes]:
    """One observation and a chunk of actions for every step of a dataset, and its episodes.

    Raises:
        ValueError: If it lacks what the model reads.
    """
    from ..data.formats.registry import read_episodes
    from ..data.windows import Windows

    episodes = read_episodes(dataset, everything=True)
    absent = sorted(set(model.observation_shapes) - set(episodes.observations))
    if absent:
        raise ValueError(
            f"{dataset} has no {absent}, which the policy reads; it has "
            f"{sorted(episodes.observations)}"
        )
    windows = Windows(episodes, tuple(model.observation_shapes), 1, model.config.num_actions)
    return windows, episodes
