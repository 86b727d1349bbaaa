"""Policies that see: from pictures to actions, on every engine, every frame encoded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hotloop.decoding import ActionSpec, Executor, Observation
from hotloop.decoding.conformance import PolicyConformance
from hotloop.decoding.rolling import LevelMixture
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, ModelConfig, StreamingSampling
from hotloop.policies.diffusion.encoding import frame_program
from hotloop.policies.diffusion.model import Batch, DiffusionModel
from hotloop.policies.networks import EncoderConfig, NetworkConfig
from hotloop.policies.networks.vision import Vision
from hotloop.policies.programs.engines.engine import installed_engines, make_engine
from hotloop.train.objectives.denoising import DenoisingObjective

FRONT, WRIST, STATE = "observation.front", "observation.wrist", "observation.state"
SPEC = ActionSpec(("x", "y"), (-1.0, -1.0), (1.0, 1.0), 0.1)
SHAPES = {FRONT: (32, 40, 3), STATE: (2,), WRIST: (24, 24, 3)}
ENCODER = EncoderConfig(crop=(20, 20), width=8, num_keypoints=4, num_features=8)
CONFIG = ModelConfig(
    horizon=9,
    num_levels=8,
    ladders=("1x8", "4x2"),
    network=NetworkConfig(width=32, depth=1),
    encoder=ENCODER,
)
SAMPLING = {
    "dp": DiffusionSampling(num_execute=1, calls_per_step=2),
    "sdp": StreamingSampling(num_execute=1, calls_per_step=1, start_calls=2),
}
OTHERS = {
    "real-time chunking": ("dp", DiffusionSampling(4, 2, prefix_guidance="identity")),
    "start zero": ("sdp", StreamingSampling(4, 1, start="zero")),
    "start constant": ("sdp", StreamingSampling(4, 1, start="constant", start_key=STATE)),
}


def seeing(config: ModelConfig = CONFIG, shapes: dict[str, tuple[int, ...]] = SHAPES):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DiffusionModel(config, shapes, SPEC.size).eval().requires_grad_(False)


def frame(step: int, scene: int = 0, shapes: dict[str, tuple[int, ...]] = SHAPES):
    generator = np.random.default_rng([scene, step])
    return {
        key: generator.integers(0, 256, (1, *shape), np.uint8)
        if len(shape) == 3
        else generator.uniform(-1, 1, (1, *shape)).astype(np.float32)
        for key, shape in shapes.items()
    }


class Counting:
    """Counts the frames that an encoder sees."""

    def __init__(self, vision: Vision) -> None:
        self.num_frames = 0
        forward = vision.forward

        def counted(pictures: torch.Tensor) -> torch.Tensor:
            self.num_frames += len(pictures)
            return forward(pictures)

        vision.forward = counted


@pytest.mark.parametrize("kind", ["dp", "sdp"])
class TestSeeingPolicies(PolicyConformance):
    @pytest.fixture
    def policy(self, kind: str):
        return Checkpoint(kind, seeing(), SPEC, SAMPLING[kind], {}).policy()


@pytest.mark.parametrize("name", OTHERS)
class TestOtherWaysOfSampling(PolicyConformance):
    @pytest.fixture
    def policy(self, name: str):
        kind, sampling = OTHERS[name]
        return Checkpoint(kind, seeing(), SPEC, sampling, {}).policy()


def test_late_plans_see_too() -> None:
    model = seeing(replace(CONFIG, horizon=11, max_latency=2, ladders=("4x2",)))
    sampling = StreamingSampling(4, 1, start_calls=2)
    executor = Executor(Checkpoint("sdp", model, SPEC, sampling, {}).policy(), latency=2)
    counting = Counting(model.vision)
    executor.reset([0])
    for step in range(9):
        executor.act(frame(step))
    # Plans from frames 0, 2 and 6; the frames before the later two are seen in between.
    assert executor.num_plans == 3 and counting.num_frames == 5


@pytest.mark.parametrize("kind", ["dp", "sdp"])
@pytest.mark.parametrize("num_obs_steps", [1, 2, 3])
def test_every_frame_is_encoded_once(kind: str, num_obs_steps: int) -> None:
    model = seeing(replace(CONFIG, num_obs_steps=num_obs_steps, horizon=10, ladders=("1x8",)))
    policy = Checkpoint(kind, model, SPEC, SAMPLING[kind], {}).policy()
    counting = Counting(model.vision)
    executor = Executor(policy)
    executor.reset([1])
    for step in range(6):
        executor.act(frame(step))
        assert counting.num_frames == step + 1
    executor.reset([2], np.array([0]))
    executor.act(frame(5))
    assert counting.num_frames == 7, "a reset forgets"


def test_a_step_between_plans_encodes_only_what_the_next_plan_looks_back_at() -> None:
    model = seeing()
    policy = Checkpoint("sdp", model, SPEC, replace(SAMPLING["sdp"], num_execute=4), {}).policy()
    counting = Counting(model.vision)
    executor = Executor(policy)
    executor.reset([1])
    encoded = []
    for step in range(9):
        executor.act(frame(step))
        encoded.append(counting.num_frames)
    # Plans at 0, 4 and 8; steps 3 and 7 are the second frames of the next ones.
    assert encoded == [1, 1, 1, 2, 3, 3, 3, 4, 5]


@pytest.mark.parametrize("sampling", [SAMPLING["dp"], DiffusionSampling(4, 2)])
def test_what_is_remembered_never_changes_a_plan(sampling: DiffusionSampling) -> None:
    model = seeing()
    remembering = Checkpoint("dp", model, SPEC, sampling, {}).policy()
    one, other = (Executor(remembering), Executor(_Forgetful(model, SPEC, sampling)))
    for executor in (one, other):
        executor.reset([1, 2])
    for step in range(8):
        frames = [frame(step, scene) for scene in (0, 1)]
        both = {key: np.concatenate([each[key] for each in frames]) for key in SHAPES}
        np.testing.assert_allclose(one.act(both), other.act(both), atol=2e-6)


class _Forgetful:
    """The same policy, which encodes all frames at every plan."""

    def __init__(self, model, spec, sampling) -> None:
        self._policy = Checkpoint("dp", model, spec, sampling, {}).policy()
        self.action_spec, self.num_execute = spec, self._policy.num_execute
        self.observation_spec, self.reset = self._policy.observation_spec, self._policy.reset

    def plan(self, observation: Observation, step: np.ndarray):
        self._policy._head.observed.reset(0, observation.rows)
        return self._policy.plan(observation, step)


def test_a_program_computes_what_the_model_does() -> None:
    model = seeing()
    policy = Checkpoint("dp", model, SPEC, SAMPLING["dp"], {}).policy()
    policy.reset(np.array([3]))
    frames = {key: np.stack([frame(0)[key], frame(1)[key]], axis=1) for key in SHAPES}
    observation = Observation(frames, np.array([1]), np.array([0]))
    context = model.flatten({key: torch.from_numpy(value) for key, value in frames.items()})
    seen = policy._head.observed.context(observation)
    torch.testing.assert_close(seen, context, atol=1e-5, rtol=0)


ENGINES = [name for name in installed_engines() if name not in ("eager", "compile")]


@pytest.mark.parametrize(
    "encoder",
    [
        replace(ENCODER, resize=(24, 28), shared=True),
        EncoderConfig("resnet18", resize=(32, 32), num_keypoints=4, num_features=8),
    ],
    ids=["shared", "resnet18"],
)
def test_every_engine_encodes_as_eager_pytorch(encoder: EncoderConfig) -> None:
    program = frame_program(seeing(replace(CONFIG, encoder=encoder)))
    for engine in ENGINES:  # of one program, which is exported once
        assert make_engine(engine, program).parity < 1e-4, engine


def test_every_engine_runs_picture_to_action() -> None:
    checkpoint, actions = Checkpoint("dp", seeing(), SPEC, SAMPLING["dp"], {}), {}
    policies = {name: checkpoint.policy(engine=name) for name in ("eager", *ENGINES)}
    for name, policy in policies.items():
        executor = Executor(policy)
        executor.reset([0])
        actions[name] = [executor.act(frame(step)) for step in range(4)]
    for name in ENGINES:
        np.testing.assert_allclose(actions[name], actions["eager"], atol=1e-4, err_msg=name)


def test_pictures_alone_are_enough() -> None:
    model = seeing(shapes={FRONT: SHAPES[FRONT]})
    executor = Executor(Checkpoint("sdp", model, SPEC, SAMPLING["sdp"], {}).policy())
    executor.reset([0])
    actions = [executor.act(frame(step, shapes={FRONT: SHAPES[FRONT]})) for step in range(3)]
    assert len({action.tobytes() for action in actions}) == 3


def test_a_checkpoint_keeps_what_is_done_to_pictures(tmp_path) -> None:
    model = seeing()
    save_checkpoint(tmp_path / "it", Checkpoint("sdp", model, SPEC, SAMPLING["sdp"], {}))
    loaded = load_checkpoint(tmp_path / "it")
    assert loaded.model.config == CONFIG
    actions = []
    for one in (model, loaded.model):
        executor = Executor(Checkpoint("sdp", one, SPEC, SAMPLING["sdp"], {}).policy())
        executor.reset([0])
        actions.append([executor.act(frame(step)) for step in range(3)])
    np.testing.assert_array_equal(*actions)


def test_the_encoder_learns_and_further_draws_share_its_work() -> None:
    model = seeing().requires_grad_(True)
    mixture = LevelMixture(9, 8, model.delayed_ladders, 0.8, 0.0)
    windows = {
        key: torch.from_numpy(np.stack([frame(0)[key], frame(1)[key]], 1).repeat(4, 0))
        for key in SHAPES
    }
    batch = Batch(windows, torch.rand(4, 9, 2))
    objective = DenoisingObjective(model, mixture, num_draws=3)
    draw = objective.draw(batch, torch.Generator().manual_seed(0))
    assert draw.level.shape == (4, 3, 9) and draw.seen.pictures.dtype == torch.uint8
    loss = objective(draw)
    each = [
        DenoisingObjective(model, mixture)(replace(draw, level=level, noise=noise))
        for level, noise in zip(draw.level.split(1, 1), draw.noise.split(1, 1), strict=True)
    ]
    torch.testing.assert_close(loss, torch.stack(each).mean())
    loss.backward()
    gradients = [weight.grad.abs().sum() for weight in model.vision.parameters()]
    assert min(gradients) > 0


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (replace(ENCODER, crop=(30, 20)), r"crop \(30, 20\) is larger than .*wrist.*\(24, 24\)"),
        (EncoderConfig(shared=True), "shared needs pictures of one size"),
        (EncoderConfig(kind="vit"), "'vit'.*conv"),
        (EncoderConfig("resnet18", width=3), "no choice encoder.width"),
        (EncoderConfig("resnet18"), "at least 32 pixels"),
        (replace(ENCODER, crop=(8, 8)), "at least 16 pixels"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(encoder: EncoderConfig, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        seeing(replace(CONFIG, encoder=encoder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({FRONT: np.zeros((1, 3, 32, 40), np.uint8)}, "front.*channels come first"),
        ({FRONT: np.zeros((1, 32, 40, 3), np.float32)}, "front.*uint8.*float32"),
        ({FRONT: np.zeros((1, 32, 40, 4), np.uint8)}, "front.*32, 40, 4"),
    ],
)
def test_other_pictures_are_refused(change: dict[str, np.ndarray], said: str) -> None:
    executor = Executor(Checkpoint("dp", seeing(), SPEC, SAMPLING["dp"], {}).policy())
    executor.reset([0])
    with pytest.raises(ValueError, match=said):
        executor.act({**frame(0), **change})
