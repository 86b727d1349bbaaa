"""Jacobi trajectories of a teacher over a dataset: collected into shards, read back for training.

CEED-VLA, algorithm 2: from every prompt of the dataset a random block is iterated to its fixed
point, and all iterates are kept.

A shard ``trajectories-00003.safetensors`` covers a fixed range of samples and is written whole or
not at all, so an interrupted collection goes on where it stopped. For N prompts it holds `index`
(N,) of the sample, `fixed` (N, n), `labels` (N, n) of the demonstration, `guesses` (N, G, n),
`iterates` (M, n) of all prompts, and `offsets` (N + 1,) into them. `collection.json` says what the
shards were made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ...decoding.jacobi import ExitRule, jacobi_committed
from ...decoding.plumbing.files import replacing, write_text
from ...decoding.token_guesses import shifted_chunk
from ...policies.vla.model import VlaModel
from ..data.windows import Windows, step_generator

MANIFEST = "collection.json"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class CollectionConfig:
    """What is collected.

    Attributes:
        num_random: Random guesses per sample.
        previous: Also start from the demonstrated chunk `num_execute` steps earlier, shifted, as a
            warm start will.
        num_execute: Executed actions per plan, for that shift.
        stride: Every how many samples one is used.
        shard_size: Samples per shard.
        batch_size: Samples decoded at a time.
        max_calls: Forwards after which a trajectory counts as not converged; 0 for n.
        seed: Seed of the random guesses.
    """

    num_random: int = 1
    previous: bool = True
    num_execute: int = 4
    stride: int = 1
    shard_size: int = 1024
    batch_size: int = 64
    max_calls: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject configurations that collect nothing."""
        if self.num_random < 0 or not (self.num_random or self.previous):
            raise ValueError("a collection needs random guesses, the previous chunk, or both")
        if min(self.stride, self.shard_size, self.batch_size, self.num_execute) < 1:
            raise ValueError("stride, shard_size, batch_size and num_execute must be at least 1")
        if self.max_calls < 0:
            raise ValueError(f"max_calls must be 0 or more, got {self.max_calls}")


@dataclass(frozen=True)
class Trajectories:
    """Collected trajectories of N prompts; see the module's text."""

    index: Tensor
    fixed: Tensor
    labels: Tensor
    guesses: Tensor
    iterates: Tensor
    offsets: Tensor

    def iterates_of(self, row: int) -> Tensor:
        """Iterates of one prompt without its fixed point, shape (J, n)."""
        return self.iterates[int(self.offsets[row]) : int(self.offsets[row + 1])].long()


def collect(
    folder: Path,
    model: VlaModel,
    windows: Windows,
    config: CollectionConfig,
    advance: Callable[[int], object] = lambda num_samples: None,
) -> Path:
    """Write the trajectories of all samples; shards that are there already are kept.

    Args:
        folder: Folder of the shards.
        model: Teacher.
        windows: Samples, with one observation and a chunk of actions each.
        config: Guesses and sizes.
        advance: Told numbers of samples as they are done.

    Raises:
        ValueError: If the folder holds shards of another teacher, dataset or configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_manifest(folder, _manifest(model, windows, config))
    samples = torch.arange(0, len(windows), config.stride)
    for number, indices in enumerate(samples.split(config.shard_size)):
        path = folder / f"trajectories-{number:05d}.safetensors"
        if not path.exists():
            generator = step_generator(config.seed, number, stream="jacobi")
            parts = [
                _trajectories(model, windows, batch, config, generator)
                for batch in indices.split(config.batch_size)
            ]
            arrays = vars(_joined(parts))
            contiguous = {key: value.contiguous() for key, value in arrays.items()}
            with replacing(path) as partial:
                safetensors.torch.save_file(contiguous, partial)
        advance(len(indices))
    return folder


def read_trajectories(folder: Path) -> Trajectories:
    """Read all shards of a collection.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If they are of another format.
    """
    paths = sorted(folder.glob("trajectories-*.safetensors"))
    if not paths or not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"{folder} holds no Jacobi trajectories; collect them first")
    version = json.loads((folder / MANIFEST).read_text()).get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} holds trajectories of format {version}, and {FORMAT_VERSION} is read; "
            "collect them again"
        )
    return _joined([Trajectories(**safetensors.torch.load_file(path)) for path in paths])


@torch.inference_mode()
def _trajectories(
    model: VlaModel,
    windows: Windows,
    indices: Tensor,
    config: CollectionConfig,
    generator: torch.Generator,
) -> Trajectories:
    batch = windows.gather(indices)
    frames = {key: values[:, 0].numpy() for key, values in batch.observation.items()}
    labels = torch.from_numpy(model.action_tokenizer.encode(batch.actions.numpy()).tokens)
    prompt = model.prompt(frames, check=False)
    token_model, begin = model.token_model(prompt), model.begin(len(indices))
    rule = ExitRule(config.max_calls or labels.shape[1])
    found: list[list[Tensor]] = [[] for _ in indices]
    fixed = torch.zeros_like(labels)
    guesses = _guesses(model, windows, indices, config, generator)
    for guess in guesses:
        # One reading of the prompt serves all guesses: decoders leave it in the cache.
        decoded = jacobi_committed(token_model, begin, guess.to(begin.device), rule, record=True)
        states = torch.stack(decoded.iterates, dim=1).cpu()
        for row in decoded.converged.nonzero()[:, 0].tolist():
            found[row].append(states[row])
            fixed[row] = decoded.tokens[row].cpu()
    rows = [_distinct(parts, fixed[row]) for row, parts in enumerate(found)]
    kept = [row for row, iterates in enumerate(rows) if len(iterates)]
    chosen = [rows[row] for row in kept]
    sizes = torch.tensor([0, *(len(iterates) for iterates in chosen)])
    iterates = torch.cat(chosen) if chosen else labels[:0]
    return Trajectories(
        indices[kept],
        fixed[kept].to(torch.int16),
        labels[kept].to(torch.int16),
        torch.stack(guesses, dim=1)[kept].to(torch.int16),
        iterates.to(torch.int16),
        sizes.cumsum(0),
    )


def _guesses(
    model: VlaModel,
    windows: Windows,
    indices: Tensor,
    config: CollectionConfig,
    generator: torch.Generator,
) -> list[Tensor]:
    """Blocks to start from, each of shape (B, n)."""
    tokenizer = model.action_tokenizer
    shape = (len(indices), tokenizer.num_tokens)
    guesses = [
        torch.randint(tokenizer.vocabulary_size, shape, generator=generator)
        for _ in range(config.num_random)
    ]
    if config.previous:
        earlier = windows.earlier(indices, config.num_execute)
        chunks, _ = tokenizer.encode(windows.gather(earlier).actions.numpy())
        executed = (indices - earlier).tolist()
        moved = [
            shifted_chunk(chunk, num, tokenizer.size)
            for chunk, num in zip(chunks, executed, strict=True)
        ]
        guesses.append(torch.from_numpy(np.stack(moved)))
    return guesses


def _distinct(parts: list[Tensor], fixed: Tensor) -> Tensor:
    """The different states of one prompt's trajectories but the fixed point, shape (J, n)."""
    if not parts:
        return fixed[None][:0]
    states = torch.unique(torch.cat(parts), dim=0)
    return states[(states != fixed).any(dim=1)]


def _joined(parts: list[Trajectories]) -> Trajectories:
    counts = torch.cat([part.offsets.diff() for part in parts])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    names = ("index", "fixed", "labels", "guesses", "iterates")
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Trajectories(**joined, offsets=offsets)


def _manifest(model: VlaModel, windows: Windows, config: CollectionConfig) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    digest_data = hashlib.sha256(windows.actions.numpy().tobytes()).hexdigest()
    return {
        "format_version": FORMAT_VERSION,
        "teacher": digest.hexdigest(),
        "actions": digest_data,
        "num_samples": len(windows),
        **{key: value for key, value in vars(config).items() if key != "batch_size"},
    }


def _check_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    path = folder / MANIFEST
    if not path.exists():
        write_text(path, json.dumps(manifest, indent=2) + "\n")
        return
    stored = json.loads(path.read_text())
    differing = sorted(key for key in manifest if stored.get(key) != manifest[key])
    if differing:
        raise ValueError(
            f"{folder} holds trajectories of another collection: {', '.join(differing)} differ; "
            "choose another folder, or repeat the command that began it"
        )
