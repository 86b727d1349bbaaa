"""Tiny vision-language models with random weights, and prompts for them, for several test files."""

from __future__ import annotations

import numpy as np
import torch

from hotloop.decoding import ActionSpec
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.vla import BinStatistics, TinyHost, VlaModel, tiny_vla
from hotloop.policies.vla.session import Prompt

SPEC = ActionSpec(("x [m]", "y [m]", "gripper"), (-2.0, -1.0, -1.0), (1.0, 3.0, 1.0), dt=0.1)
ACTIONS = BinStatistics((-1.5, -1.0, -1.0), (0.5, 2.0, 1.0), (True, True, False))
STATE = BinStatistics((-1.0, 0.0), (1.0, 2.0), (True, True))
TEXTS = ("open the drawer", "push the red button", "close it")
IMAGE, WRIST, STATE_KEY = (
    "observation.images.front",
    "observation.images.wrist",
    "observation.state",
)
SIZES = {"image_size": 16, "patch_size": 4, "vision_width": 16, "vision_layers": 1, "width": 32}


def tiny_model(
    family: str = "idefics3",
    cameras: tuple[str, ...] = (IMAGE,),
    num_actions: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    layers: int = 2,
    heads: int = 2,
) -> VlaModel:
    """A model whose logits are far from flat, so that its tokens depend on one another."""
    sizes = TinyHost(family, layers=layers, heads=heads, **SIZES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = tiny_vla(sizes, TEXTS, num_actions, ACTIONS, cameras, STATE_KEY, STATE)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "vision" not in name:
                parameter.data = 0.3 * torch.randn(parameter.shape)
    return model.to(dtype).eval().requires_grad_(False)


def frames(model: VlaModel, num_rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """One frame per row; the rows' instructions differ in length."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for key, shape in model.observation_shapes.items():
        if key == INSTRUCTION_KEY:
            texts = [TEXTS[(row + seed) % len(TEXTS)] for row in range(num_rows)]
            found[key] = np.stack([encode_instruction(text) for text in texts])
        elif len(shape) == 3:
            found[key] = rng.integers(256, size=(num_rows, *shape)).astype(np.uint8)
        else:
            found[key] = rng.uniform(-1, 1, (num_rows, *shape)).astype(np.float32)
    return found


def prompt_of(model: VlaModel, num_rows: int, seed: int = 0) -> Prompt:
    prompt = model.prompt(frames(model, num_rows, seed))
    assert num_rows == 1 or not prompt.attended.all(), "rows of a batch shall need padding"
    return prompt


def row_of(prompt: Prompt, row: int) -> Prompt:
    """One row's prompt without its padding."""
    kept = prompt.attended[row]
    ids = prompt.ids[row, kept][None]
    return Prompt(ids, torch.ones_like(ids, dtype=torch.bool), prompt.pixel_values[[row]])


def random_blocks(model: VlaModel, num_rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokenizer = model.action_tokenizer
    shape = (num_rows, tokenizer.num_tokens)
    return torch.randint(tokenizer.vocabulary_size, shape, generator=generator)
