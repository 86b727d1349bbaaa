"""The observation's part of a program: frames and pictures to what the network is modulated by.

A program is given one picture per camera, the newest. What the encoder made of the frames before
goes in as features, and the features of the newest come out, to be given to the next run: a picture
is encoded once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..networks.vision import Vision
from ..programs.program import Call, Port, Program
from ..programs.shared import shared
from .model import DiffusionModel, join

VECTORS, PICTURES, EARLIER, KNOWN, FEATURES = (
    "observation",
    "pictures",
    "earlier",
    "known",
    "features",
)


class Encode(nn.Module):
    """Observation to modulation: once per run.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.normalizer = model.observation_normalizer
        self.network = model.network

    def forward(self, observation: Tensor) -> Tensor:
        """Return the modulation (R, ...) of frames in physical units, shape (R, To, O)."""
        return self.network.encode(self.normalizer(observation).flatten(1))


class EncodePictures(nn.Module):
    """Observation with pictures to modulation, and to features that the next run needs.

    Args:
        model: Trained model.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        assert model.vision is not None
        self.vision: Vision = model.vision
        self.normalizer = model.observation_normalizer
        self.network = model.network

    def forward(
        self,
        pictures: Tensor,
        observation: Tensor | None = None,
        earlier: Tensor | None = None,
        known: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the modulation (R, ...) and the features (R, F) of the newest frame.

        Args:
            pictures: Newest frame of all cameras, shape (R, P), uint8.
            observation: Vectors in physical units, shape (R, To, V), if there are any.
            earlier: Features of the frames before, oldest first, shape (R, To - 1, F), for To > 1.
            known: Greater than 0.5 where they are that, shape (R, To - 1, 1); elsewhere the newest
                frame stands in, as it does when an episode starts.
        """
        newest = self.vision(pictures)  # (r, f)
        features = newest[:, None]  # (r, 1, f)
        if earlier is not None and known is not None:
            features = torch.cat([torch.where(known > 0.5, earlier, features), features], dim=1)
        joined = features.flatten(1)
        if observation is not None:
            joined = join(self.normalizer(observation), features)
        return self.network.encode(joined), newest


def encode_call(model: DiffusionModel) -> Call:
    """The call that makes the ``modulation``, and of pictures the ``features``."""
    arguments = {name: name for name in observation_ports(model)}
    if model.vision is None:
        return Call(_part(Encode, model), arguments, ("modulation",))
    return Call(_part(EncodePictures, model), arguments, ("modulation", FEATURES))


def frame_program(model: DiffusionModel) -> Program:
    """Pictures of one frame to their ``features``."""
    assert model.vision is not None
    ports = observation_ports(model)
    call = Call(model.vision, {PICTURES: PICTURES}, (FEATURES,))
    return Program({PICTURES: ports[PICTURES]}, feature_ports(model), [call])


def observation_ports(model: DiffusionModel) -> dict[str, Port]:
    """What a program is told of the observation."""
    num_steps, ports = model.config.num_obs_steps, {}
    if model.vector_keys:
        normalizer = model.observation_normalizer
        scale, offset = normalizer.scale.cpu().numpy(), normalizer.offset.cpu().numpy()
        # Half the range of a min-max normaliser; where it looks at nothing, any number will do.
        looks = scale != 0
        scale, offset = np.where(looks, scale, 1), np.where(looks, offset, 0)
        ports[VECTORS] = Port((num_steps, len(scale)), -offset / scale, 0.5 / np.abs(scale))
    if model.vision is None:
        return ports
    ports[PICTURES] = Port((model.vision.num_bytes,), dtype=np.uint8)
    if num_steps > 1:
        ports[EARLIER] = Port((num_steps - 1, model.vision.num_features))
        ports[KNOWN] = Port((num_steps - 1, 1), offset=0.5)
    return ports


def feature_ports(model: DiffusionModel) -> dict[str, Port]:
    """What a program tells of the observation."""
    return {} if model.vision is None else {FEATURES: Port((model.vision.num_features,))}


def _part(kind: type[Encode | EncodePictures], model: DiffusionModel) -> nn.Module:
    """The one module of a kind around the model's network."""
    choices = (id(model.observation_normalizer), id(model.vision))
    return shared(kind, model.network, lambda: kind(model), *choices)
