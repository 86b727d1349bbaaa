"""Diffusion policies of the papers' sizes: parts of `benchmark_gpu.py`.

Random weights, windows of 17 actions of 2 numbers, 20 numbers observed, two frames; with pictures
one camera of 96 pixels more. Streaming policies make one network call per control step, Diffusion
Policy a hundred or ten. All times are of whole control steps that plan, from the observation to the
action, and speed-ups are over eager Diffusion Policy with all its calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gpu_rows import Contender, Setting, bandwidth, measure, num_parameters, parity, timed_policy

from hotloop.decoding import ActionSpec
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.diffusion.config import DiffusionSampling, ModelConfig, StreamingSampling
from hotloop.policies.diffusion.model import DiffusionModel, seeded_model
from hotloop.policies.networks.config import EncoderConfig, NetworkConfig
from hotloop.policies.place import moved

SPEC = ActionSpec(("x", "y"), (-1.0, -1.0), (1.0, 1.0), dt=0.1)
STATE, PICTURE = "observation.state", "observation.image"
NUM_EXECUTE = 8
NUM_BYTES = {"float32": 4, "bf16": 2}


@dataclass(frozen=True)
class Network:
    """A network and what is wanted of it.

    Attributes:
        name: What it is called in rows.
        dims: Channels per resolution of the U-Net.
        targets: Longest control step of a streaming policy on a CUDA graph, per precision [ms].
        speed_ups: Smallest ratio to eager Diffusion Policy of a hundred calls, per precision.
        encoder: Encoder of the picture, if it sees one.
    """

    name: str
    dims: tuple[int, ...]
    targets: Mapping[str, float]
    speed_ups: Mapping[str, float] = field(default_factory=dict)
    encoder: EncoderConfig | None = None


NETWORKS = {
    "unet-63M": Network(
        "U-Net 256-512-1024",
        (256, 512, 1024),
        {"float32": 0.65, "bf16": 0.35},
        {"float32": 500, "bf16": 1000},
    ),
    "unet-247M": Network("U-Net 512-1024-2048", (512, 1024, 2048), {"bf16": 0.45}),
    "pictures": Network(
        "ResNet-18 and U-Net 256-512-1024",
        (256, 512, 1024),
        {"float32": 1.0, "bf16": 1.0},
        encoder=EncoderConfig("resnet18", crop=(84, 84)),
    ),
}


def run_network(setting: Setting) -> None:
    """The part that is named like a network: its policies on CUDA graphs and eager."""
    network, device = NETWORKS[setting.part], setting.device
    model = moved(build(network, tiny=setting.tiny), device).eval().requires_grad_(False)
    weights = num_parameters(model)
    floor = {name: 1e3 * weights * size / bandwidth(setting) for name, size in NUM_BYTES.items()}
    facts = {"network": network.name, "parameters": weights}
    streaming = Checkpoint("sdp", model, SPEC, StreamingSampling(NUM_EXECUTE, 1), {})
    levels = model.config.num_levels
    diffusion = Checkpoint("dp", model, SPEC, DiffusionSampling(NUM_EXECUTE, levels), {})
    calls = (levels,) if network.encoder is not None else (levels, max(1, levels // 10))

    def contender(kind: str, num: int, engine: str, precision: str = "float32") -> Contender:
        checkpoint = streaming if kind == "sdp" else diffusion
        wanted = kind == "sdp" and engine == "graph"
        return Contender(
            {**facts, "policy": f"{kind}-{num}", "engine": engine, "precision": precision},
            partial(_timer, checkpoint, num, setting.graph if engine == "graph" else "eager",
                    precision),
            parity,
            target_ms=network.targets.get(precision) if wanted else None,
            floor_ms=num * floor[precision],
            target_speed_up=network.speed_ups.get(precision) if wanted else None,
        )  # fmt: skip

    measure(
        setting,
        [
            *(contender("dp", num, "eager") for num in calls),
            contender("sdp", 1, "graph"),
            contender("sdp", 1, "graph", "bf16"),
            contender("sdp", 1, "eager"),
            *(contender("dp", num, "graph") for num in calls),
        ],
    )


def build(network: Network, *, tiny: bool) -> DiffusionModel:
    """The model with random weights, or a miniature of it."""
    dims = (16, 32) if tiny else network.dims
    shapes: dict[str, tuple[int, ...]] = {STATE: (20,)}
    choices: dict[str, Any] = {}
    if network.encoder is not None:
        shapes[PICTURE] = (32, 32, 3) if tiny else (96, 96, 3)
        choices["encoder"] = EncoderConfig(width=8) if tiny else network.encoder
    config = ModelConfig(
        horizon=17,
        num_levels=4 if tiny else 100,
        ladders=(f"{NUM_EXECUTE}x2",),
        network=NetworkConfig("unet", dims=dims),
        **choices,
    )
    return seeded_model(config, shapes, SPEC.size, seed=0)


def _timer(checkpoint: Checkpoint, num_calls: int, engine: str, precision: str) -> Any:
    sampling = {"calls_per_step": num_calls}
    return timed_policy(checkpoint.policy(sampling, engine, precision=precision))
