"""CUDA graphs: a whole control step of any number of network calls as one launch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..program import Encode, ReverseProgram, ReverseStep

# cuDNN and cuBLAS choose their kernels in the first runs, which must not happen while recording.
_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Recording:
    """One recorded run and the memory that it is tied to.

    Inputs share one pinned buffer, so that a control step copies to the GPU once.

    Attributes:
        graph: All calls with their reverse steps.
        observation: View of `host_inputs`, shape (R, To, O).
        x: View of `host_inputs`, shape (R, H, D).
        noise: View of `host_inputs`, shape (calls, R, H, D), or None.
        host_inputs: Pinned memory, flat.
        inputs: What the graph reads, flat, on the GPU.
        result: What the graph writes, shape (R, H, D), on the GPU.
        host_result: Pinned memory, shape (R, H, D).
    """

    graph: torch.cuda.CUDAGraph
    observation: np.ndarray
    x: np.ndarray
    noise: np.ndarray | None
    host_inputs: Tensor
    inputs: Tensor
    result: Tensor
    host_result: Tensor


class CudaGraphEngine:
    """Runs a reverse program as one CUDA graph, recorded once per number of rows.

    Noise is drawn beforehand and goes in with the observation, so the graph holds the network
    calls and the arithmetic between them: nothing returns to Python before the last action.

    Args:
        program: What to run; its model is copied to the current GPU.
    """

    def __init__(self, program: ReverseProgram) -> None:
        self.parity = float("nan")
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._program = program.to(self._device)
        self._encode = Encode(self._program.model)
        self._step = ReverseStep(self._program.model)
        self._recordings: dict[int, Recording] = {}

    def __call__(
        self, observation: np.ndarray, x: np.ndarray, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """Run all calls; see `Engine`."""
        recording = self._recordings.get(len(x)) or self._record(len(x))
        recording.observation[...] = observation
        recording.x[...] = x
        if recording.noise is not None:
            recording.noise[...] = noise
        recording.inputs.copy_(recording.host_inputs, non_blocking=True)
        recording.graph.replay()
        recording.host_result.copy_(recording.result, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return recording.host_result.numpy().copy()

    @torch.no_grad()
    def _record(self, rows: int) -> Recording:
        program, config = self._program, self._program.model.config
        window = (rows, config.horizon, program.model.action_dim)
        shapes = [(rows, config.num_obs_steps, len(program.model.observation_normalizer.scale))]
        shapes += (
            [window] if program.noise_scale is None else [window, (program.num_calls, *window)]
        )
        sizes = [int(np.prod(shape)) for shape in shapes]
        host_inputs = torch.zeros(sum(sizes), pin_memory=True)
        inputs = host_inputs.to(self._device)

        def views(flat: Tensor) -> list[Tensor]:
            parts = flat.split(sizes)
            return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

        frames, start, *draws = views(inputs)
        noise = draws[0] if draws else None
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self._device)
        # TensorFloat-32 would round away what the comparison with eager PyTorch checks.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_RUNS):
                    program.run(self._encode, self._step, frames, start, noise)
            torch.cuda.current_stream(self._device).wait_stream(stream)
            with torch.cuda.graph(graph):
                result = program.run(self._encode, self._step, frames, start, noise)
        host_frames, host_start, *host_draws = (view.numpy() for view in views(host_inputs))
        recording = self._recordings[rows] = Recording(
            graph,
            host_frames,
            host_start,
            host_draws[0] if host_draws else None,
            host_inputs,
            inputs,
            result,
            torch.empty(window, pin_memory=True),
        )
        return recording
