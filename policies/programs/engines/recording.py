"""CUDA graphs of steps: work on memory that never moves, recorded once, repeated as one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch

Step = Callable[[], None]
Record = Callable[[Step, torch.device], Step]

# cuDNN and cuBLAS choose their kernels in the first runs, which must not happen while recording.
_WARM_UP_RUNS = 3


def record_graph(step: Step, device: torch.device) -> Step:
    """A CUDA graph of a step.

    Args:
        step: Launches work on one GPU and reads nothing back. It is run a few times beforehand, so
            running it again must do no harm.
        device: The GPU.

    Returns:
        What launches the same work again, on the same memory.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP_RUNS):
            step()
    torch.cuda.current_stream(device).wait_stream(stream)
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay
