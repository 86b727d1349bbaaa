"""What policies tell a program of the observation, and what they remember of pictures."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...decoding import Observation, ObservationSpec
from ..programs.engines.engine import Engine, make_engine, run
from ..programs.engines.memory import Memory
from ..programs.rows import check_reset
from .encoding import EARLIER, FEATURES, KNOWN, PICTURES, VECTORS, frame_program
from .model import DiffusionModel, join


class Encoded(NamedTuple):
    """A frame that was encoded: bytes of all cameras (P,), and their features (F,)."""

    pictures: np.ndarray
    features: np.ndarray


class Observed:
    """The observations of all rows at the numpy boundary.

    Frames that a row's earlier plans, or `observe`, have encoded are known by their bytes, so that
    what is remembered saves work and never changes a plan.

    Args:
        model: Trained model.
        engine: How the encoder runs.

    Attributes:
        spec: Keys, shapes and number of frames.
    """

    def __init__(self, model: DiffusionModel, engine: str) -> None:
        self.spec = ObservationSpec(model.observation_shapes, model.config.num_obs_steps)
        self._model = model
        self._vectors = _slices(model, model.vector_keys)
        self._pictures = _slices(model, self.spec.pictures)
        self._num_older = model.config.num_obs_steps - 1
        self._remembered: list[deque[Encoded]] = []
        self._encoder: Engine | None = None
        if self._pictures:
            self._encoder = make_engine(engine, frame_program(model))

    @property
    def parity(self) -> float:
        """Largest difference of the encoder's engine from eager PyTorch."""
        return 0.0 if self._encoder is None else self._encoder.parity

    def reset(self, num_rows: int, rows: np.ndarray | None) -> None:
        """Forget the pictures of `rows`; without `rows`, make so many new ones."""
        if rows is None:
            self._remembered = [deque(maxlen=2 * self._num_older) for _ in range(num_rows)]
            return
        for row in rows.tolist():
            self._remembered[row].clear()

    def write(self, observation: Observation, memory: Memory) -> None:
        """Write the observation to the inputs of a program."""
        if self._vectors:
            self._join_vectors(observation, memory.inputs[VECTORS])
        if self._pictures:
            newest = memory.inputs[PICTURES]
            self._join_pictures(observation, -1, newest)
            if self._num_older:
                earlier, known = memory.inputs[EARLIER], memory.inputs[KNOWN]
                self._write_earlier(observation, newest, earlier, known)

    def keep(self, observation: Observation, memory: Memory) -> None:
        """Remember what a run of the program has encoded."""
        if self._pictures and self._num_older:
            pictures, features = memory.inputs[PICTURES], memory.outputs[FEATURES]
            self._remember(observation.rows, pictures, features)

    def observe(self, observation: Observation) -> None:
        """Encode the newest frame of each row and remember it, see `decoding.Observing`."""
        if self._pictures and self._num_older:
            pictures = self._empty(len(observation.rows))
            self._join_pictures(observation, -1, pictures)
            self._remember(observation.rows, pictures, self._encode(pictures))

    def context(self, observation: Observation) -> Tensor:
        """What the network is told of the observation, shape (R, To * O), by PyTorch."""
        keys, device = self._vectors or self._pictures, self._model.device
        # Copies, as an observation may be read-only.
        frames = {key: torch.tensor(observation.frames[key]).to(device) for key in keys}
        vectors = self._model.vectors(frames)  # (r, to, v)
        if not self._pictures:
            return join(vectors)
        num_rows = len(observation.rows)
        newest = self._empty(num_rows)
        self._join_pictures(observation, -1, newest)
        size = newest.shape[0], self._num_older
        features = self._encode(newest)  # (r, f)
        earlier, known = np.zeros((*size, features.shape[1]), np.float32), np.zeros((*size, 1))
        if self._num_older:
            self._write_earlier(observation, newest, earlier, known)
            self._remember(observation.rows, newest, features)
        older = np.where(known > 0.5, earlier, features[:, None])
        every = np.concatenate([older, features[:, None]], axis=1, dtype=np.float32)
        return join(vectors, torch.from_numpy(every).to(device))

    def _join_vectors(self, observation: Observation, joined: np.ndarray) -> None:
        """Write the vectors of all keys side by side to `joined`, shape (R, To, V)."""
        for key, features in self._vectors.items():
            frames = observation.frames[key]
            if frames.ndim != 3:
                frames = frames.reshape(*joined.shape[:2], -1)
            joined[:, :, features] = frames

    def _join_pictures(self, observation: Observation, index: int, joined: np.ndarray) -> None:
        """Write one of the To frames of all cameras side by side to `joined`, shape (R, P)."""
        for key, place in self._pictures.items():
            joined[:, place] = observation.frames[key][:, index].reshape(len(joined), -1)

    def _write_earlier(
        self, observation: Observation, newest: np.ndarray, earlier: np.ndarray, known: np.ndarray
    ) -> None:
        """Write the features (R, To - 1, F) of the older frames, and where they are needed."""
        frames = self._empty(len(newest))
        rows = observation.rows
        check_reset(rows, len(self._remembered))
        for index in range(self._num_older):
            self._join_pictures(observation, index, frames)
            unknown = []
            for entry, row in enumerate(rows.tolist()):
                known[entry, index] = 0.0 if _same(frames[entry], newest[entry]) else 1.0
                if known[entry, index, 0]:
                    features = self._recall(row, frames[entry])
                    if features is None:
                        unknown.append(entry)
                    else:
                        earlier[entry, index] = features
            if unknown:
                encoded = self._encode(frames[unknown])
                earlier[unknown, index] = encoded
                self._remember(rows[unknown], frames[unknown], encoded)

    def _recall(self, row: int, pictures: np.ndarray) -> np.ndarray | None:
        for frame in self._remembered[row]:
            if _same(frame.pictures, pictures):
                return frame.features
        return None

    def _remember(self, rows: np.ndarray, pictures: np.ndarray, features: np.ndarray) -> None:
        check_reset(rows, len(self._remembered))
        for row, one, encoded in zip(rows.tolist(), pictures, features, strict=True):
            self._remembered[row].append(Encoded(one.copy(), encoded.copy()))

    def _encode(self, pictures: np.ndarray) -> np.ndarray:
        """Features (n, F) of frames (n, P)."""
        assert self._encoder is not None
        return run(self._encoder, {PICTURES: pictures})[FEATURES]

    def _empty(self, num_rows: int) -> np.ndarray:
        assert self._model.vision is not None
        return np.empty((num_rows, self._model.vision.num_bytes), np.uint8)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two frames have the same bytes, by the fastest way there is."""
    return one.tobytes() == other.tobytes()


def _slices(model: DiffusionModel, keys: tuple[str, ...]) -> dict[str, slice]:
    """Where each key's numbers are, side by side."""
    slices, begin = {}, 0
    for key in keys:
        end = begin + int(np.prod(model.observation_shapes[key]))
        slices[key] = slice(begin, end)
        begin = end
    return slices
