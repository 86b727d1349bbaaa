"""OpenVLA's published layout: its weights, its prompt and its actions, without its code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openvla_towers import features
from tiny_openvla import (
    IMAGE_SIZE,
    STATISTICS,
    TINY,
    all_shapes,
    random_weights,
    write_folder,
)
from tiny_vla import IMAGE, frames, prompt_of, random_blocks
from torch import Tensor

from hotloop.decoding import Observation
from hotloop.decoding.instruction import INSTRUCTION_KEY, decode_instruction
from hotloop.decoding.jacobi import jacobi, jacobi_committed
from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.checkpoint import Checkpoint, load_checkpoint
from hotloop.policies.vla import BinStatistics, VlaModel, pretrained_vla
from hotloop.policies.vla.graphs import GraphPasses
from hotloop.policies.vla.openvla.choices import OpenVlaChoices
from hotloop.policies.vla.openvla.reading import read_openvla
from hotloop.policies.vla.passes import ImageTokens
from hotloop.policies.vla.session import block_logits
from hotloop.policies.vla.token_engine import TokenEngine
from hotloop.train.cli import main

NAME = TINY
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("openvla"))


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    found = read_openvla(folder, OpenVlaChoices(NAME, num_actions=2), 0.2)
    found.model.float()
    return found


def double(checkpoint: Checkpoint) -> VlaModel:
    model = VlaModel(checkpoint.model.config).double().eval().requires_grad_(False)
    model.load_state_dict(checkpoint.model.state_dict())
    return model


def reference_ids(model: VlaModel, weights: dict[str, Tensor], frame: dict[str, Any]) -> list[int]:
    """Ids that OpenVLA generates for one row, from the start of the text for every token."""
    weights = {name: value.double() for name, value in weights.items()}
    images = torch.from_numpy(frame[IMAGE][0]).double().permute(2, 0, 1)[None] / 255
    hidden = features(weights, images)
    for name in ("fc1", "fc2", "fc3"):
        weight, bias = (weights[f"projector.{name}.{part}"] for part in ("weight", "bias"))
        hidden = hidden @ weight.T + bias
        if name != "fc3":
            hidden = torch.nn.functional.gelu(hidden)
    instruction = decode_instruction(frame[INSTRUCTION_KEY][0]).lower()
    question = f"In: What action should the robot take to {instruction}?\nOut:"
    ids = [1, *model._tokenizer.encode(question, add_special_tokens=False).ids, 29_871]
    llama = model.host.model.language_model
    generated: list[int] = []
    for _ in range(model.action_tokenizer.num_tokens):
        embedded = llama.get_input_embeddings()(torch.tensor([ids + generated]))
        inputs = torch.cat([embedded[:, :1], hidden, embedded[:, 1:]], dim=1)
        logits = llama(inputs_embeds=inputs).logits[0, -1]
        generated.append(31_744 + int(logits[31_744:32_000].argmax()))
    return generated


def reference_actions(ids: list[int]) -> np.ndarray:
    """OpenVLA's rule: bins below the vocabulary's end, quantiles where the mask says so."""
    action = STATISTICS[NAME]["action"]
    low, high = np.array(action["q01"]), np.array(action["q99"])
    edges = np.linspace(-1, 1, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    chosen = np.clip(32_000 - np.array(ids) - 1, 0, 254)
    values = centres[chosen].reshape(-1, 3)
    return np.where(action["mask"], (values + 1) / 2 * (high - low) + low, values)


def test_every_weight_has_the_published_name(checkpoint: Checkpoint) -> None:
    names = checkpoint.model.host.model.state_dict()
    assert {name: tuple(value.shape) for name, value in names.items()} == all_shapes()
    for name, value in random_weights().items():
        assert torch.equal(names[name], value.float()), name


def test_pictures_are_seen_as_by_both_towers(checkpoint: Checkpoint) -> None:
    model = double(checkpoint)
    images = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.float64)
    towers = model.host.model.vision_backbone.values()
    seen = torch.cat([tower(images) for tower in towers], dim=-1)
    weights = {name: value.double() for name, value in random_weights().items()}
    torch.testing.assert_close(seen, features(weights, images), rtol=1e-5, atol=1e-6)


def test_actions_are_those_that_openvla_generates(checkpoint: Checkpoint) -> None:
    model, weights = double(checkpoint), random_weights()
    found = []
    for seed in range(3):
        frame = frames(model, 1, seed)
        ids = reference_ids(model, weights, frame)
        for decoder in (greedy_tokens, jacobi, jacobi_committed):
            second: Any = 6 if decoder is greedy_tokens else random_blocks(model, 1)
            tokens = decoder(model.token_model(model.prompt(frame)), model.begin(1), second).tokens
            assert (tokens[0] + 31_744).tolist() == ids
        actions = model.action_tokenizer.decode(tokens.numpy())[0]
        np.testing.assert_allclose(actions, reference_actions(ids), atol=1e-12)
        found += ids
    assert len(set(found)) > 5, "constant tokens would show nothing"


def test_every_id_is_the_action_that_openvla_makes_of_it(checkpoint: Checkpoint) -> None:
    ids = np.repeat(np.arange(31_744, 32_000), 3)
    tokens = ids.reshape(-1, 6) - 31_744
    actions = checkpoint.model.action_tokenizer.decode(tokens).reshape(-1, 3)
    np.testing.assert_allclose(actions, reference_actions(ids.tolist()), atol=1e-12)
    spec = checkpoint.action_spec
    assert (actions >= spec.low).all()
    assert (actions <= spec.high).all()
    assert actions[:, 2].min() < -0.99, "what the mask leaves alone is not scaled"


def test_rows_of_a_batch_are_padded_behind_the_pictures(checkpoint: Checkpoint) -> None:
    model = double(checkpoint)
    together, values = prompt_of(model, 3), frames(model, 3)
    assert together.ids[:, 0].tolist() == [1, 1, 1]
    for row in range(3):
        alone = model.prompt({key: value[[row]] for key, value in values.items()})
        assert alone.attended.all()
        expected = block_logits(model.host, alone, model.begin(1))[0]
        found = block_logits(model.host, together, model.begin(3))[row]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_passes_of_fixed_shapes_decode_the_same_tokens(checkpoint: Checkpoint) -> None:
    model = double(checkpoint)
    static = TokenEngine(model, partial(GraphPasses, model.host, record=lambda step, _: step))
    for seed in range(3):
        prompt, begin, guess = prompt_of(model, 3, seed), model.begin(3), random_blocks(model, 3)
        expected = greedy_tokens(model.token_model(prompt), begin, 6).tokens
        assert torch.equal(greedy_tokens(static.token_model(prompt), begin, 6).tokens, expected)
        for decoder in (jacobi, jacobi_committed):
            found = decoder(static.token_model(prompt), begin, guess).tokens
            assert torch.equal(found, expected)


def test_graphs_of_the_towers_serve_any_number_of_rows(checkpoint: Checkpoint) -> None:
    images = ImageTokens(checkpoint.model.host)
    pixels = torch.rand(3, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    rows = {"pixel_values": {0: torch.export.Dim("rows", min=1, max=64)}}
    graph = torch.export.export(images, (pixels[:2],), dynamic_shapes=rows).module()
    torch.testing.assert_close(graph(pixels), images(pixels))


def test_an_imported_folder_is_an_ordinary_checkpoint(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "own"
    settings = ["dt=0.2", f"openvla.norm_key={NAME}", "openvla.num_actions=2"]
    assert main(["import", str(folder), str(out), *settings]) == 0
    stored = load_checkpoint(out)
    values = {key: value[:, None] for key, value in frames(checkpoint.model, 3).items()}
    observation = Observation(values, np.arange(3), np.zeros(3, np.int64))
    actions = []
    for one in (checkpoint, stored):
        for method in ("greedy", "committed"):
            policy = one.policy({"method": method})
            policy.reset(np.arange(3))
            actions.append(policy.plan(observation, np.zeros(3, np.int64)).actions)
    for other in actions[1:]:
        np.testing.assert_array_equal(other, actions[0])


def test_a_policy_is_trained_from_the_folder_with_statistics_of_its_own(folder: Path) -> None:
    actions = BinStatistics((-1.0,) * 4, (1.0,) * 4, (True,) * 4)
    state = BinStatistics((-1.0, 0.0), (1.0, 2.0), (True, True))
    model = pretrained_vla(folder, 3, actions, (IMAGE,), "observation.state", state)
    assert model.config.first_action_id == 31_744
    assert model.action_tokenizer.num_tokens == 12
    prompt = prompt_of(model, 2)
    block_logits(model.host, prompt, model.begin(2)).sum().backward()
    seen = model.host.model.vision_backbone["featurizer"].patch_embed["proj"].weight.grad
    assert seen is not None
    assert seen.abs().max() > 0
