"""Axis-angle actions that a network sees as six numbers, and their way back out of every engine."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny import FakeNetwork

from hotloop.decoding import ActionSpec, Observation
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.actions import ActionNormalizer, ActionPort, Physical
from hotloop.policies.diffusion.config import DiffusionSampling, StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, ModelConfig
from hotloop.policies.diffusion.policy import DiffusionPolicy
from hotloop.policies.diffusion.real_time_chunking import RealTimeChunkingPolicy
from hotloop.policies.diffusion.rotations import DecodeRotations, find_leaps, to_columns
from hotloop.policies.diffusion.streaming import StreamingDiffusionPolicy
from hotloop.policies.networks.config import NetworkConfig
from hotloop.policies.normalizer import Normalizer
from hotloop.policies.programs.engines.engine import make_engine, run
from hotloop.policies.programs.program import Call, Port, Program
from hotloop.train import compose_training
from hotloop.train.config.distill import JumpDistillConfig
from hotloop.train.config.policies import PolicyConfig
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.data.episodes import Episodes
from hotloop.train.families.diffusion import initial_model
from hotloop.train.training import train_on

NAMES = ("x [m]", "y [m]", "z [m]", "turn x [rad]", "turn y [rad]", "turn z [rad]", "fingers")
HIGH = (1.0, 1.0, 1.0, math.pi, math.pi, math.pi, 1.0)
SPEC = ActionSpec(NAMES, tuple(-limit for limit in HIGH), HIGH, dt=0.05)
KEY = "observation.state"


def hard_rotations() -> np.ndarray:
    """Axis-angle vectors of all kinds, and at 0 and pi and just beside them, shape (n, 3)."""
    vectors = Rotation.from_quat(np.random.default_rng(0).normal(size=(500, 4))).as_rotvec()
    axes = np.concatenate([vectors / np.linalg.norm(vectors, axis=1)[:, None], np.eye(3)])
    angles = [0, 1e-12, 1e-6, 1e-3, math.pi - 1e-3, math.pi - 1e-6, math.pi, 1.5 * math.pi]
    return np.concatenate([vectors, *(angle * axes for angle in angles)])


def angle_between(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Angles [rad] between rotations given as axis-angle vectors (n, 3)."""
    return (Rotation.from_rotvec(one).inv() * Rotation.from_rotvec(two)).magnitude()


def turning(num_episodes: int = 8, length: int = 40) -> Episodes:
    """A hand that points down and sways, as recorded: at most pi, so its vector leaps."""
    phase = np.random.default_rng(0).uniform(0, 6, (num_episodes, 1)) + 0.3 * np.arange(length)
    phase = phase.ravel()
    sway = Rotation.from_rotvec(np.stack([0.4 * np.sin(phase), 0 * phase, 0.3 * np.cos(phase)], 1))
    turn = (sway * Rotation.from_rotvec([math.pi, 0, 0])).as_rotvec()
    place = 0.5 * np.stack([np.sin(phase), np.cos(phase), 0 * phase + 1], 1)
    fingers = np.sign(np.sin(phase))[:, None]
    actions = np.concatenate([place, turn, fingers], 1).astype(np.float32)
    state = np.stack([np.sin(phase), np.cos(phase)], 1).astype(np.float32)
    return Episodes({KEY: state}, actions, np.arange(1, num_episodes + 1) * length)


def knowing_model(action: np.ndarray, rotations: tuple[int, ...] = (3,)) -> DiffusionModel:
    """A model that is sure of one action, shape (7,)."""
    sizes = NetworkConfig("mlp", 16, 1)
    config = ModelConfig(9, 2, 24, ("2x3",), network=sizes, max_latency=1, rotations=rotations)
    model = DiffusionModel(config, {KEY: (7,)}, 7)
    model.action_normalizer.scale_like(Normalizer.fit(np.array([-np.ones(7), HIGH]), "min_max"))
    clean = model.action_normalizer(torch.tensor(action, dtype=torch.float32))
    model.network = FakeNetwork(24, lambda x, level, seen: clean.expand_as(x))
    return model.eval().requires_grad_(False)


def seen_at(step: int, frame: np.ndarray) -> Observation:
    frames = np.tile(frame, (2, 2, 1))
    return Observation({KEY: frames}, np.full(2, step), np.arange(2))


@pytest.mark.parametrize(("kind", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_a_rotation_comes_back_as_it_was(kind: torch.dtype, atol: float) -> None:
    vectors = hard_rotations()
    columns = to_columns(torch.from_numpy(vectors).to(kind))
    matrix = Rotation.from_rotvec(vectors).as_matrix()
    expected = np.concatenate([matrix[:, :, 0], matrix[:, :, 1]], axis=1)
    np.testing.assert_allclose(columns, expected, atol=atol)
    found = DecodeRotations((0,)).to(kind)(columns).double().numpy()
    assert angle_between(found, vectors).max() < atol
    assert np.linalg.norm(found, axis=1).max() < math.pi + atol
    short = np.linalg.norm(vectors, axis=1) < math.pi - 1e-5
    np.testing.assert_allclose(found[short], vectors[short], atol=atol)


def test_whatever_a_network_says_becomes_a_rotation() -> None:
    """By Gram and Schmidt: the first column's direction, and the second's plane."""
    said = np.random.default_rng(0).normal(0, [[1e-3], [1.0], [30.0]], (3, 6))
    decode = DecodeRotations((0,)).double()
    matrices = Rotation.from_rotvec(decode(torch.from_numpy(said)).numpy()).as_matrix()
    first = said[:, :3] / np.linalg.norm(said[:, :3], axis=1)[:, None]
    np.testing.assert_allclose(matrices[:, :, 0], first, atol=1e-6)
    normal = np.cross(said[:, :3], said[:, 3:])
    np.testing.assert_allclose(
        matrices[:, :, 2], normal / np.linalg.norm(normal, axis=1)[:, None], atol=1e-6
    )
    nothing = torch.tensor([[0.0] * 6, [1.0, 0, 0, 2, 0, 0], [0.0, 0, 0, 0, 0, 1]])
    assert decode(nothing.double()).isfinite().all()


def test_only_rotations_are_seen_otherwise_and_two_hands_have_one_each() -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-2, 2, (50, 14)).astype(np.float32)
    normalizer, plain = ActionNormalizer(14, (3, 10)), Normalizer.fit(actions, "min_max")
    normalizer.scale_like(plain)
    inner = normalizer(torch.from_numpy(actions))
    assert inner.shape == (50, 20)
    rest = [*range(3), 6, *range(7, 10), 13]
    expected = plain(torch.from_numpy(actions))[:, rest]
    torch.testing.assert_close(inner[:, [*range(3), 9, *range(10, 13), 19]], expected)
    for begin, inside in ((3, 3), (10, 13)):
        turned = to_columns(torch.from_numpy(actions[:, begin : begin + 3]))
        torch.testing.assert_close(inner[:, inside : inside + 6], turned)
    back = normalizer.inverse(inner).numpy()
    np.testing.assert_allclose(back[:, rest], actions[:, rest], atol=1e-5)
    assert angle_between(back[:, 10:13], actions[:, 10:13]).max() < 1e-4


@pytest.mark.parametrize("engine", ["eager", "onnx", "openvino"])
def test_engines_agree_at_the_hardest_points(engine: str) -> None:
    """About pi rounding decides between two vectors; they are the same rotation."""
    normalizer, (low, high) = ActionNormalizer(7, (3,)), SPEC.float32_bounds
    vectors = hard_rotations().astype(np.float32)
    place = np.random.default_rng(0).uniform(-2, 2, (len(vectors), 1, 4)).astype(np.float32)
    window = np.concatenate([place[..., :3], vectors[:, None], place[..., 3:]], axis=2)
    port = ActionPort((1, 7), scale=(high - low) / 2, rotations=(3,))
    call = Call(Physical(normalizer, 0, low, high).eval(), {"window": "window"}, ("actions",))
    program = Program({"window": Port((1, 10))}, {"actions": port}, [call])
    runner = make_engine(engine, program)
    inner = normalizer(torch.from_numpy(window)).numpy()
    actions = run(runner, {"window": inner})["actions"]
    SPEC.check(actions)
    assert angle_between(actions[:, 0, 3:6], vectors).max() < 1e-4
    rest = [0, 1, 2, 6]
    np.testing.assert_allclose(actions[..., rest], np.clip(window[..., rest], -1, 1), atol=1e-6)
    inner[::2, 0, 5] = np.nan
    is_lost = np.isnan(run(runner, {"window": inner})["actions"])
    assert is_lost[::2, 0, 3:6].all()
    assert not is_lost[1::2].any()


def test_of_two_vectors_the_one_within_the_bounds_is_sent() -> None:
    """A robot recorded at 2.9 to 3.4 rad is not told to turn by -2.98 instead of 3.3."""
    low, high = (np.array(ends, np.float32) for ends in ([2.9, -0.4, -0.4], [3.4, 0.4, 0.4]))
    normalizer = ActionNormalizer(3, (0,))
    physical = Physical(normalizer, 0, low, high)
    vectors = torch.tensor([[[3.0, 0.1, 0.0], [3.3, 0.2, -0.3], [math.pi, 0, 0], [2.0, 0, 0]]])
    found = physical(normalizer(vectors))
    torch.testing.assert_close(found[:, :3], vectors[:, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0, 3], torch.tensor([2.9, 0, 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "sampling",
    [
        DiffusionSampling(2, 2),
        DiffusionSampling(2, 2, prefix_guidance="identity"),
        StreamingSampling(2, 1),
        StreamingSampling(2, 2, start="zero"),
        StreamingSampling(2, 1, start="constant", start_key=KEY),
    ],
)
def test_every_policy_sends_what_its_network_means(
    sampling: DiffusionSampling | StreamingSampling,
) -> None:
    action = np.array([0.1, -0.2, 0.3, 2.9, -0.8, 0.6, -1.0], np.float32)
    model = knowing_model(action)
    if isinstance(sampling, StreamingSampling):
        policy = StreamingDiffusionPolicy(model, SPEC, sampling)
    elif sampling.prefix_guidance:
        policy = RealTimeChunkingPolicy(model, SPEC, sampling)
    else:
        policy = DiffusionPolicy(model, SPEC, sampling)
    policy.reset(np.arange(2))
    for index in range(4):
        step = 2 * index
        late = int(isinstance(policy, StreamingDiffusionPolicy) and index > 1)
        plan = policy.plan(seen_at(step - late, action), np.full(2, step))
        chunk = plan.actions[:, late : late + 2]
        if index > 0 or not isinstance(sampling, StreamingSampling) or sampling.start == "denoise":
            np.testing.assert_allclose(chunk, np.broadcast_to(action, chunk.shape), atol=2e-5)
        SPEC.check(plan.actions)


def config_of(folder: Path, steps: int, rotations: tuple[int, ...] = (3,)) -> TrainConfig:
    network = NetworkConfig("mlp", 64, 1)
    model = ModelConfig(9, 2, 24, ("4x2",), network=network, rotations=rotations)
    policy = PolicyConfig(model=model, chunkwise=0.7, sampling=StreamingSampling(4, 2))
    return TrainConfig(
        policy,
        optim=OptimConfig(lr=2e-3, warmup_steps=20),
        output_dir=str(folder),
        steps=steps,
        batch_size=64,
        log_every=steps,
        save_every=steps,
    )


def largest_turn_error(checkpoint: Path, engine: str = "eager") -> float:
    """Largest angle [rad] between the next action and the recorded one, over an episode."""
    episodes = turning()
    policy = load_checkpoint(checkpoint).policy(engine=engine)
    policy.reset(np.arange(1))
    errors = []
    for step in range(1, 33, 4):
        frames = {KEY: episodes.observations[KEY][None, step - 1 : step + 1]}
        steps = np.array([step])
        plan = policy.plan(Observation(frames, steps, np.arange(1)), steps)
        policy.action_spec.check(plan.actions[:, :4])
        expected = episodes.actions[step : step + 4, 3:6]
        errors.append(angle_between(plan.actions[0, :4, 3:6], expected).max())
    return float(max(errors))


def test_a_policy_and_its_student_learn_a_hand_that_points_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without rotations the vector's leaps are averaged, and the hand points up in between."""
    plain = train_on(config_of(tmp_path / "plain", 150, ()), turning(), SPEC)
    assert "actions 3 to 5 leap to their opposite" in caplog.text
    assert "policy.model.rotations=[3]" in caplog.text
    caplog.clear()
    teacher = train_on(config_of(tmp_path / "teacher", 200), turning(), SPEC)
    assert "leap" not in caplog.text
    assert largest_turn_error(plain) > 1.0
    assert largest_turn_error(teacher) < 0.3
    assert load_checkpoint(teacher).model.config.rotations == (3,)
    config = replace(config_of(tmp_path / "student", 100), distill=JumpDistillConfig(str(teacher)))
    config = replace(config, distill=replace(config.distill, refresh_every=50))
    student = train_on(config, turning(), SPEC)
    assert load_checkpoint(student).model.config.rotations == (3,)
    assert largest_turn_error(student, "onnx") < 0.3


def test_leaps_are_found_within_episodes_and_where_they_are() -> None:
    episodes = turning()
    leaps = find_leaps(episodes.actions, episodes.episode_ends)
    turns = episodes.actions[:, 3:6].reshape(8, 40, 3)
    assert leaps == {3: int((np.abs(np.diff(turns, axis=1)).max(axis=2) > 3).sum())}
    smooth = np.sin(np.arange(320))[:, None] * np.linspace(0.5, 3.5, 7)
    assert find_leaps(smooth, episodes.episode_ends) == {}
    assert find_leaps(episodes.actions[:, :2], episodes.episode_ends) == {}


def test_rotations_that_are_deltas_are_told(caplog: pytest.LogCaptureFixture) -> None:
    episodes, model = turning(), ModelConfig(9, 2, 24, rotations=(3,))
    initial_model(PolicyConfig(model=model), episodes, seed=0)
    assert caplog.text == ""
    deltas = replace(episodes, actions=episodes.actions * np.float32(0.1))
    initial_model(PolicyConfig(model=model), deltas, seed=0)
    assert "actions 3 to 5 turn by 0.31 rad at most" in caplog.text


@pytest.mark.parametrize(
    ("rotations", "message"),
    [
        ("[3,5]", r"rotations must hold the first index .* 3 apart at least, got \[3, 5\]"),
        ("[-1]", r"rotations must hold the first index .*, got \[-1\]"),
        ("[x]", r"policy\.model\.rotations"),
    ],
)
def test_triples_that_are_none_are_refused(rotations: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose_training([f"policy.model.rotations={rotations}"])


def test_triples_that_the_actions_do_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"5 must be the first of 3 action dim.* 7 in all, 0 to 6"):
        train_on(config_of(tmp_path, 1, (5,)), turning(), SPEC)
    episodes = turning()
    degrees = replace(episodes, actions=np.rad2deg(episodes.actions))
    with pytest.raises(ValueError, match="actions 3 to 5 must be an axis-angle vector in radians"):
        train_on(config_of(tmp_path, 1), degrees, SPEC)
