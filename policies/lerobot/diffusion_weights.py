"""The weights of LeRobot's Diffusion Policy under the names of `DiffusionModel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..diffusion.model import DiffusionModel
from ..networks.encoder import SpatialSoftmax
from ..networks.folded_resnet import fold
from ..networks.resnet import ReluResNet18Encoder
from ..networks.unet1d import UNet1DDenoiser
from .folder import WEIGHTS_FILE, Folder, refuse_other_weights
from .processors import Feature

Shape = tuple[int, ...]
_UNET, _ENCODER = "diffusion.unet.", "diffusion.rgb_encoder"
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# Children of LeRobot's ``backbone``, a plain sequence, by their names in a ResNet.
_CHILDREN = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


@dataclass(frozen=True)
class Inputs:
    """What the network is given of a frame, in LeRobot's order.

    Attributes:
        state: The robot's state.
        cameras: Pictures.
        environment: State of the environment, if the policy reads it.
    """

    state: Feature
    cameras: tuple[Feature, ...]
    environment: Feature | None

    @property
    def vectors(self) -> tuple[Feature, ...]:
        """State and environment."""
        return (self.state,) if self.environment is None else (self.state, self.environment)

    @property
    def in_our_order(self) -> tuple[Feature, ...]:
        """Vectors come first in hotloop's frames."""
        return (*self.vectors, *self.cameras)


def diffusion_weights(
    folder: Folder, model: DiffusionModel, inputs: Inputs, has_scale: bool
) -> dict[str, Tensor]:
    """The weights of network and encoders as `model` has them; normalisers are not among them.

    Args:
        folder: LeRobot's weights by its names.
        model: What is to be filled.
        inputs: What the network is given.
        has_scale: Whether FiLM scales; otherwise it only adds.

    Raises:
        ValueError: If weights are missing, unknown, or of another shape; it lists all of them.
    """
    network = model.network
    assert isinstance(network, UNet1DDenoiser)
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    names = {f"{_UNET}{theirs}": f"network.{ours}" for theirs, ours in _unet_names(network)}
    convolutions: dict[str, tuple[str, str]] = {}
    grids: dict[str, Tensor] = {}
    for theirs, ours, encoder in _encoders(model):
        grids[f"{theirs}.pool.pos_grid"] = _grid(encoder)
        names |= {f"{theirs}.{a}": f"{ours}.{b}" for a, b in _encoder_names(encoder)}
        if not isinstance(encoder, ReluResNet18Encoder):
            convolutions |= dict(_folded(theirs, ours, encoder))
    films = [
        (f"{_UNET}{block}.cond_encoder.1", channels, resolution)
        for block, channels, resolution in _blocks(network.dims)
    ]
    level_dim, frame_dim = network.level_dim, network.observation_film.in_features
    expected = {name: own[target] for name, target in names.items()}
    for name, (target, normalisation) in convolutions.items():
        expected[f"{name}.weight"] = own[f"{target}.weight"]
        expected |= {f"{normalisation}.{one}": own[f"{target}.bias"] for one in _STATISTICS}
    for film, channels, _ in films:
        num_outputs = 2 * channels if has_scale else channels
        expected[f"{film}.weight"] = (num_outputs, level_dim + frame_dim)
        expected[f"{film}.bias"] = (num_outputs,)
    expected |= {name: tuple(grid.shape) for name, grid in grids.items()}
    weights = folder.weights
    refuse_other_weights(expected, weights, folder.path / WEIGHTS_FILE)
    _check_grids(grids, weights, folder)
    found = {target: weights[name] for name, target in names.items()}
    for name, (target, normalisation) in convolutions.items():
        statistics = [weights[f"{normalisation}.{one}"] for one in _STATISTICS]
        folded = fold(weights[f"{name}.weight"], *statistics)
        found[f"{target}.weight"], found[f"{target}.bias"] = folded
    columns = _columns(inputs, model)
    return found | _films(weights, films, level_dim, columns, has_scale)


def _unet_names(network: UNet1DDenoiser) -> Iterator[tuple[str, str]]:
    """LeRobot's names of parameters and ours, FiLM aside."""
    last = len(network.dims) - 1
    modules = {
        "diffusion_step_encoder.1": "level_encoder.input",
        "diffusion_step_encoder.3": "level_encoder.output",
        "final_conv.0.block.0": "head.0.0",
        "final_conv.0.block.1": "head.0.1",
        "final_conv.1": "head.1",
    }
    stages = {f"down_modules.{index}": f"down.{index}" for index in range(last + 1)}
    stages["mid_modules"] = "middle"
    for index in range(last):
        modules[f"down_modules.{index}.2"] = f"downsample.{index}"
        modules[f"up_modules.{last - 1 - index}.2"] = f"upsample.{index}"
        stages[f"up_modules.{last - 1 - index}"] = f"up.{index}"
    for theirs, ours in stages.items():
        for index, block in enumerate(("first", "second")):
            for conv, part in (("conv1", "first"), ("conv2", "second")):
                for layer in (0, 1):
                    target = f"{ours}.{block}.{part}.{layer}"
                    modules[f"{theirs}.{index}.{conv}.block.{layer}"] = target
            shortcut = f"{ours}.{block}.shortcut"
            if isinstance(network.get_submodule(shortcut), nn.Conv1d):
                modules[f"{theirs}.{index}.residual_conv"] = shortcut
    for kind in ("weight", "bias"):
        yield from ((f"{theirs}.{kind}", f"{ours}.{kind}") for theirs, ours in modules.items())


def _blocks(dims: tuple[int, ...]) -> Iterator[tuple[str, int, int]]:
    """LeRobot's residual blocks with channels and resolution, in the order of our FiLM."""
    last = len(dims) - 1
    for resolution, channels in enumerate(dims):
        stages = [(f"down_modules.{resolution}", channels)]
        if resolution == last:
            stages.append(("mid_modules", channels))
        if resolution:
            stages.append((f"up_modules.{last - resolution}", dims[resolution - 1]))
        for stage, size in stages:
            for index in (0, 1):
                yield f"{stage}.{index}", size, resolution


def _films(
    weights: Mapping[str, Tensor],
    films: list[tuple[str, int, int]],
    level_dim: int,
    columns: Tensor,
    has_scale: bool,
) -> dict[str, Tensor]:
    """All FiLM layers side by side: what they make of the level, and of the observation."""
    level: dict[int, list[Tensor]] = {}
    biases: dict[int, list[Tensor]] = {}
    observation = []
    for name, channels, resolution in films:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if not has_scale:
            # A scale of 1, whatever level and observation are.
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.ones(channels), bias])
        level.setdefault(resolution, []).append(weight[:, :level_dim])
        biases.setdefault(resolution, []).append(bias)
        observation.append(weight[:, level_dim:][:, columns])
    found = {"network.observation_film.weight": torch.cat(observation)}
    for resolution in level:
        found[f"network.level_films.{resolution}.weight"] = torch.cat(level[resolution])
        found[f"network.level_films.{resolution}.bias"] = torch.cat(biases[resolution])
    return found


def _columns(inputs: Inputs, model: DiffusionModel) -> Tensor:
    """Where each number of our observation, To frames long, stands in LeRobot's."""
    num_features = model.config.encoder.num_features
    state, cameras = inputs.state.size, len(inputs.cameras) * num_features
    environment = inputs.environment.size if inputs.environment else 0
    order = torch.arange(state + cameras + environment)
    begin = state + cameras
    frame = torch.cat([order[:state], order[begin:], order[state:begin]])
    steps = torch.arange(model.config.num_obs_steps)[:, None] * len(frame)
    return (steps + frame).flatten()


def _encoders(model: DiffusionModel) -> Iterator[tuple[str, str, nn.Module]]:
    """Encoders with LeRobot's names and ours."""
    if model.vision is None:
        return
    for index, encoder in enumerate(model.vision.encoders):
        theirs = _ENCODER if model.config.encoder.shared else f"{_ENCODER}.{index}"
        yield theirs, f"vision.encoders.{index}", encoder


def _encoder_names(encoder: nn.Module) -> Iterator[tuple[str, str]]:
    """LeRobot's names of an encoder's parameters and ours, except for what is folded."""
    modules = {"pool.nets": "keypoints.maps", "out": "features"}
    for theirs, ours in modules.items():
        yield from ((f"{theirs}.{kind}", f"{ours}.{kind}") for kind in ("weight", "bias"))
    if isinstance(encoder, ReluResNet18Encoder):
        for name in encoder.state_dict():
            if not name.startswith(tuple(modules.values())):
                yield _backbone_name(name), name


def _folded(theirs: str, ours: str, encoder: nn.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    """LeRobot's convolutions, each with our name and LeRobot's of the normalisation behind it."""
    for name, module in encoder.get_submodule("backbone").named_modules():
        if isinstance(module, nn.Conv2d):
            conv, norm = name, name.replace("conv", "bn")
            if name.endswith("downsample"):
                conv, norm = f"{name}.0", f"{name}.1"
            first, second = (f"{theirs}.{_backbone_name(one)}" for one in (conv, norm))
            yield first, (f"{ours}.backbone.{name}", second)


def _backbone_name(name: str) -> str:
    """LeRobot's name of a part of a ResNet: ``layer1.0.conv1`` is ``backbone.4.0.conv1``."""
    child, dot, rest = name.partition(".")
    return f"backbone.{_CHILDREN[child]}{dot}{rest}"


def _grid(encoder: nn.Module) -> Tensor:
    """Positions of an encoder's keypoints."""
    keypoints = encoder.get_submodule("keypoints")
    assert isinstance(keypoints, SpatialSoftmax)
    return keypoints.positions


def _check_grids(
    grids: Mapping[str, Tensor], weights: Mapping[str, Tensor], folder: Folder
) -> None:
    """Raise ValueError if keypoints stand elsewhere than the pictures' shape says."""
    for name, grid in grids.items():
        if not torch.allclose(weights[name], grid, atol=1e-5):
            raise ValueError(
                f"{folder.path / WEIGHTS_FILE}: {name} is the grid of another shape of pictures "
                "than input_features has; correct the shape there"
            )
