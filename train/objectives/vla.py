"""Objectives of token policies: cloning for the teacher, consistency for the student."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ...decoding.placed import placed
from ...policies.diffusion.model import Batch
from ...policies.vla.model import VlaModel
from ...policies.vla.packed import packed_logits
from ...policies.vla.session import Prompt
from .objective import Drawn
from .vla_losses import cloning_loss, consistency_loss


@dataclass(frozen=True)
class PromptDraw(Drawn):
    """Prompts of B samples, and what is to follow them.

    Attributes:
        ids: Token ids, shape (B, L).
        attended: Which of them are there, shape (B, L).
        pixel_values: Pictures, shape (B, C, 3, height, width).
        labels: Tokens of the demonstrated or mixed actions, shape (B, n).
    """

    ids: Tensor
    attended: Tensor
    pixel_values: Tensor
    labels: Tensor

    @property
    def prompt(self) -> Prompt:
        """What the model reads."""
        return Prompt(self.ids, self.attended, self.pixel_values)


@dataclass(frozen=True)
class ConsistencyDraw(PromptDraw):
    """Prompts, labels, and one point of each Jacobi trajectory.

    Attributes:
        iterate: Iterates or guesses, shape (B, n).
        fixed: Fixed points, shape (B, n).
        replaced: Where labels are not the fixed point, shape (B,), on the CPU.
    """

    iterate: Tensor
    fixed: Tensor
    replaced: Tensor


class CloningObjective(nn.Module):
    """Cross-entropy of the demonstrated tokens.

    Args:
        model: Model to train.
        image_shift: Largest random shift of each picture [px], against over-fitting.
    """

    reads_on_host = True

    def __init__(self, model: VlaModel, image_shift: int = 0) -> None:
        super().__init__()
        self.model, self.image_shift = model, image_shift

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: Batch, generator: torch.Generator) -> PromptDraw:
        """Prompts with shifted pictures, and the tokens of the demonstrated actions."""
        tokens, _ = self.model.action_tokenizer.encode(batch.actions.numpy())
        labels = placed(torch.from_numpy(tokens), self.model.device)  # (b, n)
        prompt = draw_prompt(self.model, batch, self.image_shift, generator)
        return PromptDraw(prompt.ids, prompt.attended, prompt.pixel_values, labels)

    def forward(self, inputs: PromptDraw) -> Tensor:
        """Mean cross-entropy, shape ()."""
        (logits,) = packed_logits(self.model.host, inputs.prompt, [inputs.labels])  # (b, n, v)
        return cloning_loss(logits, inputs.labels)


@dataclass(frozen=True)
class TrajectoryBatch:
    """Jacobi trajectories of B prompts.

    Attributes:
        windows: Observations and demonstrated actions.
        iterates: One list of iterates per row, each of shape (J, n), without the fixed point.
        guesses: What the trajectories began with, shape (B, G, n).
        fixed: Fixed points, shape (B, n).
        labels: Targets of the autoregressive loss, shape (B, n).
    """

    windows: Batch
    iterates: list[Tensor]
    guesses: Tensor
    fixed: Tensor
    labels: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> TrajectoryBatch:
        """The same, whatever `device`: the objective moves what it has drawn."""
        del device, non_blocking
        return self


class ConsistencyObjective(nn.Module):
    """Consistency distillation: L_C + omega L_AR, all blocks behind one reading of the prompt.

    Args:
        model: Student; starts as a copy of the teacher.
        cloning_weight: Weight omega of the autoregressive loss.
        guess_share: Share of prompts for which a guess is drawn instead of any iterate.
        image_shift: Largest random shift of each picture [px].
    """

    reads_on_host = True

    def __init__(
        self,
        model: VlaModel,
        cloning_weight: float = 1.0,
        guess_share: float = 0.0,
        image_shift: int = 0,
    ) -> None:
        super().__init__()
        if not cloning_weight >= 0:
            raise ValueError(f"cloning_weight (omega) must be 0 or more, got {cloning_weight}")
        if not 0 <= guess_share <= 1:
            raise ValueError(f"guess_share must be between 0 and 1, got {guess_share}")
        self.model, self.cloning_weight = model, cloning_weight
        self.guess_share, self.image_shift = guess_share, image_shift

    def prepare(self, step: int) -> None:
        """Nothing to prepare."""

    def draw(self, batch: TrajectoryBatch, generator: torch.Generator) -> ConsistencyDraw:
        """One random iterate per prompt, or a guess."""
        begins = torch.rand(len(batch.iterates), generator=generator) < self.guess_share
        chosen = []
        for row, iterates in enumerate(batch.iterates):
            among = batch.guesses[row] if begins[row] else iterates
            chosen.append(among[int(torch.randint(len(among), (), generator=generator))])
        prompt = draw_prompt(self.model, batch.windows, self.image_shift, generator)
        labels, iterate, fixed = (
            placed(one, self.model.device)
            for one in (batch.labels, torch.stack(chosen), batch.fixed)
        )  # each (b, n)
        replaced = (batch.labels != batch.fixed).any(dim=1)
        pictures = prompt.pixel_values
        return ConsistencyDraw(
            prompt.ids, prompt.attended, pictures, labels, iterate, fixed, replaced
        )

    def forward(self, inputs: ConsistencyDraw) -> Tensor:
        """The weighted sum of both losses, shape ()."""
        iterate, fixed, labels = inputs.iterate, inputs.fixed, inputs.labels  # each (b, n)
        blocks = [fixed, iterate]
        if inputs.replaced.any():
            blocks.append(labels)
        on_fixed, on_iterate, *rest = packed_logits(self.model.host, inputs.prompt, blocks)
        # Where the label is the fixed point, its logits are there already.
        replaced = placed(inputs.replaced, labels.device)[:, None, None]
        on_labels = torch.where(replaced, rest[0], on_fixed) if rest else on_fixed
        consistency = consistency_loss(on_iterate, on_fixed, iterate, fixed)
        return consistency + self.cloning_weight * cloning_loss(on_labels, labels)


def draw_prompt(
    model: VlaModel, batch: Batch, image_shift: int, generator: torch.Generator
) -> Prompt:
    """Prompts of a batch, their pictures shifted."""
    frames = {key: values[:, 0].numpy() for key, values in batch.observation.items()}
    prompt = model.prompt(frames, check=False)
    pixel_values = prompt.pixel_values
    if image_shift:
        pixel_values = shifted_pictures(pixel_values, image_shift, generator)
    return Prompt(prompt.ids, prompt.attended, pixel_values)


def shifted_pictures(pixel_values: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """Pictures (B, C, 3, H, W), each moved by up to `largest` pixels, edges repeated."""
    height, width = pixel_values.shape[-2:]
    flat = rearrange(pixel_values, "b c rgb h w -> (b c) rgb h w")
    padded = functional.pad(flat, (largest,) * 4, mode="replicate")
    offsets = torch.randint(2 * largest + 1, (2, len(flat), 1), generator=generator)
    rows = placed(offsets[0] + torch.arange(height), flat.device)  # (b * c, h)
    columns = placed(offsets[1] + torch.arange(width), flat.device)  # (b * c, w)
    picture = torch.arange(len(flat), device=flat.device)[:, None, None, None]
    colour = torch.arange(3, device=flat.device)[None, :, None, None]
    moved = padded[picture, colour, rows[:, None, :, None], columns[:, None, None, :]]
    return rearrange(moved, "(b c) rgb h w -> b c rgb h w", b=len(pixel_values))
