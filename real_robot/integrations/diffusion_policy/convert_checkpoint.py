"""A checkpoint of Diffusion Policy (real-stanford/diffusion_policy) as a folder that hotloop reads.

It runs in *their* environment, as their checkpoints are pickles that their own code must open; it
needs safetensors beside it, and nothing of hotloop::

    pip install safetensors
    python convert_checkpoint.py latest.ckpt OUT
    python convert_checkpoint.py latest.ckpt OUT \
        observation.environment_state=0:18 observation.state=18:20

OUT gets safetensors and JSON in the form of LeRobot 0.6, so ``hotloop import OUT …`` and every
command that takes a checkpoint read it. What their policy observes is one vector: by default
``observation.state``; with more arguments, its columns by name, as above for Push-T's keypoints.

Only their low-dimensional U-Net whose observation is a global condition is converted; everything
else is refused. Python 3.9 is enough.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

POLICY, UNET = "DiffusionUnetLowdimPolicy", "ConditionalUnet1D"
STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
KINDS = {STATE: "STATE", ENVIRONMENT: "ENV", ACTION: "ACTION"}
# The one that LeRobot's policies see first.
ORDER = (STATE, ENVIRONMENT)
BEFORE, AFTER = "policy_preprocessor", "policy_postprocessor"
Weights = dict[str, torch.Tensor]


def main(arguments: list[str]) -> None:
    """Convert the checkpoint that the command line names."""
    names = [argument for argument in arguments if "=" in argument]
    paths = [Path(argument) for argument in arguments if "=" not in argument]
    if len(paths) != 2:
        raise SystemExit(
            f"usage: convert_checkpoint.py CHECKPOINT OUT [name=first:end …]\n{__doc__}"
        )
    from diffusion_policy.workspace.train_diffusion_unet_lowdim_workspace import (
        TrainDiffusionUnetLowdimWorkspace,
    )

    workspace = TrainDiffusionUnetLowdimWorkspace.create_from_checkpoint(str(paths[0]))
    averaged = workspace.cfg.training.use_ema
    policy = workspace.ema_model if averaged else workspace.model
    convert(policy, paths[1], parse_columns(names, policy.obs_dim))
    print(f"written: {paths[1]} ({'averaged' if averaged else 'last'} weights)")


def convert(policy: Any, out: Path, columns: dict[str, slice]) -> None:
    """Write the folder of a policy.

    Args:
        policy: Their `DiffusionUnetLowdimPolicy`, trained.
        out: Folder that does not exist yet.
        columns: Which columns of their observation each of ours is.
    """
    refuse(policy)
    if out.exists():
        raise SystemExit(f"{out} exists already; name a new folder")
    weights = {name: value.detach().cpu() for name, value in policy.state_dict().items()}
    network = {name[6:]: value for name, value in weights.items() if name.startswith("model.")}
    before, after = statistics(weights, columns), action_statistics(weights)
    out.mkdir(parents=True)
    converted = network_weights(network, policy, columns)
    save_file(converted, str(out / "model.safetensors"))
    write_processors(out, policy, columns, before, after)
    write_json(out / "config.json", configuration(policy, network, columns))


def refuse(policy: Any) -> None:
    """Leave with one sentence if a policy computes what the folder cannot say."""
    scheduler = policy.noise_scheduler
    for found, expected, what in (
        (type(policy).__name__, (POLICY,), "the policy"),
        (type(policy.model).__name__, (UNET,), "its network"),
        (type(scheduler).__name__, ("DDPMScheduler", "DDIMScheduler"), "its noise scheduler"),
        (bool(policy.obs_as_global_cond), (True,), "obs_as_global_cond"),
        (bool(policy.pred_action_steps_only), (False,), "pred_action_steps_only"),
        (bool(policy.oa_step_convention), (True,), "oa_step_convention"),
        (scheduler.config.get("variance_type", "fixed_small"), ("fixed_small",), "variance_type"),
        (scheduler.config.get("steps_offset", 0), (0,), "steps_offset"),
        (scheduler.config.get("set_alpha_to_one", True), (True,), "set_alpha_to_one"),
        (scheduler.config["prediction_type"], ("epsilon", "sample"), "prediction_type"),
    ):
        if found not in expected:
            raise SystemExit(
                f"{what} must be {' or '.join(map(str, expected))} to be converted, got {found}"
            )


def parse_columns(arguments: list[str], size: int) -> dict[str, slice]:
    """Which columns of an observation of `size` numbers have which name, ``name=first:end``."""
    columns = {STATE: slice(0, size)}
    if arguments:
        columns = {}
        for argument in arguments:
            match = re.fullmatch(r"([\w.]+)=(\d+):(\d+)", argument)
            if match is None or match[1] not in ORDER:
                raise SystemExit(
                    f"columns are named {' or '.join(ORDER)}, as in {STATE}=0:{size}; got "
                    f"{argument}"
                )
            columns[match[1]] = slice(int(match[2]), int(match[3]))
    covered = sorted(column for part in columns.values() for column in range(part.start, part.stop))
    if covered != list(range(size)) or STATE not in columns:
        raise SystemExit(
            f"the names must cover each of the {size} columns once, {STATE} among them, got "
            f"{', '.join(arguments)}"
        )
    return {name: columns[name] for name in ORDER if name in columns}


def network_weights(network: Weights, policy: Any, columns: dict[str, slice]) -> Weights:
    """The U-Net's weights by LeRobot's names."""
    order = [column for part in columns.values() for column in range(part.start, part.stop)]
    size, converted = policy.obs_dim, {}
    embedding = network["diffusion_step_encoder.3.weight"].shape[0]
    frames = [embedding + frame * size for frame in range(policy.n_obs_steps)]
    moved = list(range(embedding)) + [first + column for first in frames for column in order]
    for name, value in network.items():
        renamed = name.replace(".blocks.0.", ".conv1.").replace(".blocks.1.", ".conv2.")
        renamed = re.sub(r"((?:down|up)_modules\.\d+\.2)\.conv\.", r"\1.", renamed)
        chosen = value[:, moved] if name.endswith("cond_encoder.1.weight") else value
        converted[f"diffusion.unet.{renamed}"] = chosen.contiguous().float()
    return converted


def configuration(policy: Any, network: Weights, columns: dict[str, slice]) -> dict[str, Any]:
    """What LeRobot's ``config.json`` says of such a policy."""
    first = policy.model.down_modules[0][0].blocks[0].block
    modulation = network["down_modules.0.0.cond_encoder.1.weight"].shape[0]
    dims, scheduler = [], policy.noise_scheduler
    while f"down_modules.{len(dims)}.0.blocks.0.block.0.weight" in network:
        dims.append(network[f"down_modules.{len(dims)}.0.blocks.0.block.0.weight"].shape[0])
    noise = dict(scheduler.config)
    return {
        "type": "diffusion",
        "input_features": {name: feature(name, size_of(columns[name])) for name in columns},
        "output_features": {ACTION: feature(ACTION, policy.action_dim)},
        "normalization_mapping": modes(),
        "device": "cpu",
        "n_obs_steps": policy.n_obs_steps,
        "horizon": policy.horizon,
        "n_action_steps": policy.n_action_steps,
        "down_dims": dims,
        "kernel_size": first[0].kernel_size[0],
        "n_groups": first[1].num_groups,
        "diffusion_step_embed_dim": network["diffusion_step_encoder.3.weight"].shape[0],
        "use_film_scale_modulation": modulation == 2 * dims[0],
        "noise_scheduler_type": type(scheduler).__name__[:4],
        "num_train_timesteps": int(noise["num_train_timesteps"]),
        "beta_schedule": noise["beta_schedule"],
        "beta_start": float(noise["beta_start"]),
        "beta_end": float(noise["beta_end"]),
        "prediction_type": noise["prediction_type"],
        "clip_sample": bool(noise["clip_sample"]),
        "clip_sample_range": float(noise.get("clip_sample_range", 1.0)),
        "num_inference_steps": int(policy.num_inference_steps),
        # Of pictures, which there are none of.
        "vision_backbone": "resnet18",
        "use_group_norm": True,
        "use_separate_rgb_encoder_per_camera": False,
        "spatial_softmax_num_keypoints": 32,
    }


def statistics(weights: Weights, columns: dict[str, slice]) -> Weights:
    """Statistics that normalise as theirs do: (x - mean) / std is their x * scale + offset."""
    found = {}
    for name, part in columns.items():
        scale, offset = (normalizer(weights, "obs", what)[part] for what in ("scale", "offset"))
        found[f"{name}.mean"], found[f"{name}.std"] = -offset / scale, 1 / scale
    return {name: value.float() for name, value in found.items()}


def action_statistics(weights: Weights) -> Weights:
    """The same of actions, and their ends in the training data, which bound them."""
    scale, offset = (normalizer(weights, ACTION, what) for what in ("scale", "offset"))
    found = {"mean": -offset / scale, "std": 1 / scale}
    found.update({end: normalizer(weights, ACTION, f"input_stats.{end}") for end in ("min", "max")})
    return {f"{ACTION}.{name}": value.float() for name, value in found.items()}


def normalizer(weights: Weights, field: str, name: str) -> torch.Tensor:
    """Numbers of their normaliser, in full precision."""
    return weights[f"normalizer.params_dict.{field}.{name}"].double().reshape(-1)


def write_processors(
    out: Path, policy: Any, columns: dict[str, slice], before: Weights, after: Weights
) -> None:
    """Write both pipelines and their statistics."""
    features = {name: feature(name, size_of(columns[name])) for name in columns}
    for pipeline, step, statistic, described, others in (
        (
            BEFORE,
            "normalizer_processor",
            before,
            features,
            ["rename_observations_processor", "to_batch_processor", "device_processor"],
        ),
        (AFTER, "unnormalizer_processor", after, {ACTION: feature(ACTION, policy.action_dim)}, []),
    ):
        file = f"{pipeline}_step_{len(others)}_{step}.safetensors"
        save_file({name: value.contiguous() for name, value in statistic.items()}, str(out / file))
        choices = {"eps": 1e-30, "features": described, "norm_map": modes()}
        steps = [passive(name) for name in others]
        steps.append({"registry_name": step, "config": choices, "state_file": file})
        steps += [] if others else [passive("device_processor")]
        write_json(out / f"{pipeline}.json", {"name": pipeline, "steps": steps})


def passive(name: str) -> dict[str, Any]:
    """A step that changes no number."""
    choices = {"rename_observations_processor": {"rename_map": {}}, "to_batch_processor": {}}
    return {"registry_name": name, "config": choices.get(name, {"device": "cpu"})}


def modes() -> dict[str, str]:
    """How each type of feature is normalised."""
    return {kind: "MEAN_STD" for kind in ("VISUAL", "STATE", "ENV", "ACTION")}


def feature(name: str, size: int) -> dict[str, Any]:
    """How LeRobot declares a vector."""
    return {"type": KINDS[name], "shape": [size]}


def size_of(part: slice) -> int:
    """Numbers of a slice."""
    return part.stop - part.start


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a readable file."""
    path.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
