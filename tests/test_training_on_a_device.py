"""A training step on another device: nothing in it waits for what that device has still to do.

The device is `SecondDevice`, so that a machine without a GPU notices where the host would wait.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from second_device import DEVICE, Elsewhere, SecondDevice
from tiny import tiny_model
from torch import Tensor, nn
from torch.optim import optimizer
from torch.utils._pytree import tree_leaves
from training_cases import CASES, streaming

from hotloop.decoding import placed as placing
from hotloop.policies.diffusion.model import Batch
from hotloop.train import loop
from hotloop.train.average import WeightAverage, ema_decay
from hotloop.train.config.training import OptimConfig, TrainConfig
from hotloop.train.data.windows import step_generator
from hotloop.train.objectives.mean_flow import MeanFlowObjective
from hotloop.train.objectives.objective import draw_device
from hotloop.train.running_loss import _MOST_UNREAD, RunningLoss

aten = torch.ops.aten
# What needs a number of the device, or how many there are of something.
NUMBERS = (
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
)
MASKS = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class BusyDevice(SecondDevice):
    """A second device that has so much to do that nobody may wait for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        there = [one for one in tree_leaves(args) if isinstance(one, Elsewhere)]
        if there and func in NUMBERS:
            raise AssertionError(f"{func} waits for the device")
        if func in MASKS and any(one.dtype == torch.bool for one in there[1:]):
            raise AssertionError(f"{func} with a mask waits for the device")
        found = super().__torch_dispatch__(func, types, args, kwargs)
        if func is aten._to_copy.default:
            moves = isinstance(args[0], Elsewhere) != isinstance(found, Elsewhere)
            leaves = isinstance(args[0], Elsewhere)
            if moves and (leaves or not (kwargs or {}).get("non_blocking")):
                raise AssertionError("a copy between host and device waits for it")
        if func is aten.copy_.default and isinstance(args[0], Elsewhere) != isinstance(
            args[1], Elsewhere
        ):
            raise AssertionError("a copy between host and device waits for it")
        return found


class GeneratorThere(torch.Generator):
    """A generator that draws on the second device."""

    device = DEVICE  # type: ignore[assignment]


def pinned(one: Tensor) -> Tensor:
    """`Tensor.pin_memory`, which can copy no expanded tensor and none of a GPU."""
    assert one.is_contiguous() and not isinstance(one, Elsewhere)
    return one


class OneProcess:
    """The part of accelerate's `Accelerator` that the loop uses, on the second device."""

    num_processes, process_index, is_main_process, device = 1, 0, True, DEVICE

    def __init__(self, **_: Any) -> None:
        self.backward = Tensor.backward

    def prepare(self, *things: Any) -> tuple[Any, ...]:
        return things

    def reduce(self, value: Tensor, _: str) -> Tensor:
        return value

    def wait_for_everyone(self) -> None: ...


def trainer_of(objective: nn.Module, windows: Any, folder: Path, **settings: Any) -> loop.Trainer:
    objective.requires_grad_(True)
    config = TrainConfig(output_dir=str(folder), batch_size=6, **settings)
    return loop.Trainer(config, objective, windows, lambda *_: None)  # type: ignore[arg-type]


def steps_on(monkeypatch: pytest.MonkeyPatch, case: str, folder: Path) -> loop.Trainer:
    """Three steps of a trainer that was made for the device; for the last two nobody may wait."""
    monkeypatch.setattr(loop, "Accelerator", OneProcess)
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])
    with SecondDevice():
        trainer = trainer_of(*CASES[case](), folder)

    def generator_there(seed: int, step: int, stream: str, device: torch.device) -> Any:
        generator = step_generator(seed, step, stream)
        if device.type == "cpu":
            return generator
        return GeneratorThere().set_state(generator.get_state())

    monkeypatch.setattr(loop, "step_generator", generator_there)
    monkeypatch.setattr(placing, "_FETCHING", (DEVICE.type,))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(Tensor, "pin_memory", pinned)
    with SecondDevice():
        trainer._optimise()  # copies tables that stay there
    with BusyDevice() as device:
        for _ in range(2):
            trainer._optimise()
    assert device.num_operations > 100, "nothing ran there"
    return trainer


@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_device_and_all_learn_what_the_cpu_learns(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path))
    expected = trainer_of(*CASES[case](), tmp_path / "here")
    for _ in range(3):
        expected._optimise()
    with monkeypatch.context() as patch:
        found = steps_on(patch, case, tmp_path / "there")
    with SecondDevice():
        assert found._mean_loss()[1] == pytest.approx(expected._mean_loss()[1], rel=1e-4)
        for one, other in ((found.model, expected.model), (found.ema.module, expected.ema.module)):
            for value, wanted in zip(one.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(value.here, wanted, rtol=1e-3, atol=1e-5)


def test_objectives_that_decide_on_the_host_draw_there() -> None:
    """What jumps is chosen row by row, so mean flow draws where choosing makes nobody wait."""
    model = tiny_model(jump=True)
    here = torch.device("cpu")
    assert draw_device(streaming()[0], DEVICE) == DEVICE  # type: ignore[arg-type]
    assert draw_device(MeanFlowObjective(model), DEVICE) == here
    assert draw_device(streaming()[0], here) == here  # type: ignore[arg-type]


def test_the_average_of_all_weights_at_once_is_that_of_each_to_the_last_bit() -> None:
    config = OptimConfig(ema_power=0.75, ema_max=0.6)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    found, expected = WeightAverage(model, config), {}
    for update in range(5):
        with torch.no_grad():
            for value in chain(model[:2].parameters(), model.buffers()):
                value.copy_(torch.randn(value.shape) if value.is_floating_point() else value + 1)
        found.update()
        for name, value in model.state_dict().items():
            if update == 0 or name not in dict(model.named_parameters()):
                expected[name] = value.clone()
            else:
                expected[name].lerp_(value, 1 - ema_decay(config, update))
    averaged = found.module.state_dict()
    assert all(torch.equal(averaged[name], value) for name, value in expected.items())
    assert not torch.equal(averaged["0.weight"], model.state_dict()["0.weight"])


@pytest.mark.parametrize("wrong", [0, 4, 6])
def test_a_loss_that_is_not_finite_is_found_when_it_is_read(wrong: int) -> None:
    """At a step that is logged (4) or not; on the CPU at once."""
    message = rf"loss is nan at step {wrong}; the last checkpoint is kept"
    with SecondDevice():
        losses = [torch.tensor(float("nan") if one == wrong else 0.5) for one in range(7)]
        there, read = RunningLoss(), []
        with pytest.raises(FloatingPointError, match=message):
            for step, loss in enumerate(losses):
                there.add(loss.to(DEVICE), step)
                if step in (4, 6):
                    there.read(step)
                    read.append((there.num_steps, float(there.take_mean())))
        assert read == [(5, 0.5)] * (wrong == 6)
    here = RunningLoss()
    for step, loss in enumerate(losses[:wrong]):
        here.add(loss, step)
    with pytest.raises(FloatingPointError, match=message):
        here.add(losses[wrong], wrong)


def test_losses_that_nobody_reads_are_not_kept_for_ever() -> None:
    with SecondDevice():
        one, running = torch.tensor(0.25).to(DEVICE), RunningLoss()
        for step in range(_MOST_UNREAD + 1):
            running.add(one, step)
        assert running.num_steps == _MOST_UNREAD
        running.read(_MOST_UNREAD)
        assert float(running.take_mean()) == 0.25


def test_nothing_is_saved_after_a_loss_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 is neither logged nor saved; what follows it is saved every second step."""

    class Failing(RunningLoss):
        def add(self, loss: Tensor, step: int) -> None:
            self._unread.append(loss.detach() * (float("nan") if step == 3 else 1.0))

    saved: list[int] = []
    monkeypatch.setattr(loop, "RunningLoss", Failing)
    monkeypatch.setattr(loop.Trainer, "_save", lambda self: saved.append(self.step))
    settings = {"steps": 9, "log_every": 5, "save_every": 2}
    trainer = trainer_of(*streaming(), tmp_path, **settings)
    with pytest.raises(FloatingPointError, match="loss is nan at step 3"):
        trainer.run({})
    assert saved == [2]


def test_batches_for_a_gpu_come_from_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    moves: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(Batch, "to", lambda self, *how, **more: moves.append((*how, more)) or self)
    batch = Batch({"a": torch.ones(2, 1, 3)}, torch.zeros(2, 4, 1))
    device = torch.device("cuda")
    moved = placing.placed(batch, device)
    assert moved.actions is batch.actions and moved.features is None
    assert len(pinned) == 2 and moves == [(device, {"non_blocking": True})]
