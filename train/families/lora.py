"""Low-rank adapters on a token policy's host: put in to be trained, and merged to be stored."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ...decoding.plumbing.extras import require
from ...policies.vla.model import VlaModel


def add_lora(model: VlaModel, rank: int, seed: int) -> None:
    """Freeze the host but for low-rank adapters on its language model and the action block's ids.

    OpenVLA's recipe: every linear layer, alpha = min(rank, 16), no dropout, Gaussian start.

    Raises:
        ImportError: If peft is not installed.
    """
    peft = require("peft", "vla")
    host = model.host.model
    decoder = host.get_decoder()
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    }
    model.requires_grad_(False)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=min(rank, 16),
        lora_dropout=0.0,
        init_lora_weights="gaussian",
        target_modules=sorted(names),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, decoder)
    # The action ids are new words: their rows must be learnt, and a row cannot be unfrozen alone.
    for module in (host.get_input_embeddings(), host.get_output_embeddings()):
        module.requires_grad_(True)


def without_lora(model: VlaModel) -> VlaModel:
    """A copy of a model whose adapters are added to the weights that they adapt."""
    from peft.tuners.lora import LoraLayer

    merged = copy.deepcopy(model)
    for name, module in list(merged.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(merged.get_submodule(parent), child, module.get_base_layer())
    return merged
