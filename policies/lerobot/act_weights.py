"""The weights of LeRobot's ACT under the names of `ActModel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..act.model import ActModel
from ..networks.folded_resnet import fold
from .folder import refuse_other_weights

Shape = tuple[int, ...]

# Of each vector, by LeRobot's name, the layer that reads it; ACT reads no others.
VECTOR_INPUTS = {
    "observation.state": "model.encoder_robot_state_input_proj",
    "observation.environment_state": "model.encoder_env_state_input_proj",
}
_STYLE_ENCODER = "model.vae_encoder"  # what only training needs
_STYLE = "model.encoder_latent_input_proj"
_STATISTICS = ("weight", "bias", "running_mean", "running_var")


def act_weights(
    stored: Mapping[str, Tensor],
    model: ActModel,
    vector_inputs: Sequence[str],
    latent_dim: int,
    path: Path,
) -> dict[str, Tensor]:
    """The network's weights as `model` has them; normalisers are not among them.

    Args:
        stored: Weights as LeRobot names them.
        model: What is to be filled.
        vector_inputs: Names of the layers that read the model's vectors, in their order.
        latent_dim: Size of the style variable, which is 0 when acting.
        path: Named in messages.

    Raises:
        ValueError: If weights are missing, unknown, or of another shape; it lists all of them.
    """
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    parts, convolutions = dict(_parts(model, vector_inputs)), dict(_convolutions(model))
    expected = {name: _joined([own[target] for target in parts[name]]) for name in parts}
    for name, (target, normalisation) in convolutions.items():
        expected[f"{name}.weight"] = own[f"{target}.weight"]
        for statistic in _STATISTICS:
            expected[f"{normalisation}.{statistic}"] = own[f"{target}.bias"]
    expected[f"{_STYLE}.weight"] = (model.config.dim, latent_dim)
    acting = {name: value for name, value in stored.items() if not name.startswith(_STYLE_ENCODER)}
    refuse_other_weights(expected, acting, path)
    weights: dict[str, Tensor] = {}
    for name, targets in parts.items():
        chunks = stored[name].split([own[target][0] for target in targets])
        weights |= dict(zip(targets, chunks, strict=True))
    for name, (target, normalisation) in convolutions.items():
        statistics = [stored[f"{normalisation}.{statistic}"] for statistic in _STATISTICS]
        folded = fold(stored[f"{name}.weight"], *statistics)
        weights[f"{target}.weight"], weights[f"{target}.bias"] = folded
    return weights


def _joined(shapes: list[Shape]) -> Shape:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _parts(model: ActModel, vector_inputs: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """LeRobot's names, and the targets that their tensors hold side by side."""
    yield f"{_STYLE}.bias", ("style_token",)
    yield "model.encoder_1d_feature_pos_embed.weight", ("token_positions",)
    yield "model.decoder_pos_embed.weight", ("queries",)
    layers = {"model.action_head": "action_head", "model.decoder.norm": "decoder_norm"}
    if model.config.pre_norm:
        layers["model.encoder.norm"] = "encoder_norm"
    if model.cameras:
        layers["model.encoder_img_feat_input_proj"] = "picture_input"
    for index, name in enumerate(vector_inputs):
        layers[name] = f"vector_inputs.{index}"
    attentions = []
    for part, num in (("encoder", len(model.encoder)), ("decoder", len(model.decoder))):
        for name in (f"model.{part}.layers.{index}" for index in range(num)):
            own = name.removeprefix("model.").replace(".layers", "")
            crossing = part == "decoder"
            layers |= {
                f"{name}.linear1": f"{own}.feed_forward.expand",
                f"{name}.linear2": f"{own}.feed_forward.contract",
                f"{name}.norm1": f"{own}.residual.norm",
                f"{name}.norm{3 if crossing else 2}": f"{own}.feed_forward.residual.norm",
            }
            attentions.append((f"{name}.self_attn", f"{own}.attention"))
            if crossing:
                layers[f"{name}.norm2"] = f"{own}.cross_residual.norm"
                attentions.append((f"{name}.multihead_attn", f"{own}.cross_attention"))
    for kind in ("weight", "bias"):
        for name, target in layers.items():
            yield f"{name}.{kind}", (f"{target}.{kind}",)
        for name, target in attentions:
            inputs = tuple(f"{target}.{which}.{kind}" for which in ("query", "key", "value"))
            yield f"{name}.in_proj_{kind}", inputs
            yield f"{name}.out_proj.{kind}", (f"{target}.project.{kind}",)


def _convolutions(model: ActModel) -> Iterator[tuple[str, tuple[str, str]]]:
    """LeRobot's names of convolutions, each with its target and LeRobot's name of what follows."""
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Conv2d) or not name.startswith("backbone."):
            continue
        if name.endswith("downsample"):
            yield f"model.{name}.0", (name, f"model.{name}.1")
        else:
            yield f"model.{name}", (name, f"model.{name}".replace("conv", "bn"))
