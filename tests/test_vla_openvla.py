"""OpenVLA's published layout: its weights, its prompt and its actions, without its code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_openvla import (
    DINO_WIDTH,
    IMAGE_SIZE,
    PATCH,
    SIGLIP_WIDTH,
    STATISTICS,
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

NAME = "tiny_orig"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("openvla"))


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    found = read_openvla(folder, OpenVlaChoices(NAME, num_actions=2), 0.2)
    found.model.float()
    return found


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def double(checkpoint: Checkpoint) -> VlaModel:
    model = VlaModel(checkpoint.model.config).double().eval().requires_grad_(False)
    model.load_state_dict(checkpoint.model.state_dict())
    return model


def features(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """What both towers see, by the networks of transformers, of pictures in [0, 1]."""
    import transformers

    sizes: dict[str, Any] = {
        "num_attention_heads": 16,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
    }
    dino = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            hidden_size=DINO_WIDTH, num_hidden_layers=3, num_register_tokens=4, **sizes
        )
    )
    siglip = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=SIGLIP_WIDTH, num_hidden_layers=2, intermediate_size=179, hidden_act="gelu",
            **sizes,
        )
    )  # fmt: skip
    dino.load_state_dict(dino_names(weights), strict=False)
    siglip.load_state_dict(siglip_names(weights), strict=False)
    mean, std = (torch.tensor(one).view(3, 1, 1).double() for one in IMAGENET)
    one = dino.double()((images - mean) / std, output_hidden_states=True).hidden_states[-2]
    other = siglip.double()(2 * images - 1, output_hidden_states=True).hidden_states[-2]
    return torch.cat([one[:, 5:], other], dim=-1)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def dino_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "vision_backbone.featurizer."
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    positions = own["pos_embed"]
    found = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.register_tokens": own["reg_token"],
        # The class token has no position in this layout.
        "embeddings.position_embeddings": torch.cat([0 * positions[:, :1], positions], dim=1),
        "embeddings.patch_embeddings.projection.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": own["patch_embed.proj.bias"],
    }
    renamed = {
        "ls1.scale_factor": "layer_scale1.lambda1",
        "ls2.scale_factor": "layer_scale2.lambda1",
    }
    attention = {"q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj"}
    return found | blocks(own, "encoder.layer", renamed, attention, "attention.o_proj")


def siglip_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "vision_backbone.fused_featurizer."
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    found = {
        "embeddings.patch_embedding.weight": own["patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": own["patch_embed.proj.bias"],
        "embeddings.position_embedding.weight": own["pos_embed"][0],
    }
    renamed = {
        f"norm{one}.{part}": f"layer_norm{one}.{part}"
        for one in (1, 2)
        for part in ("weight", "bias")
    }
    attention = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj"}
    return found | blocks(own, "encoder.layers", renamed, attention, "self_attn.out_proj")


def blocks(
    own: dict[str, Tensor],
    prefix: str,
    renamed: dict[str, str],
    attention: dict[str, str],
    projection: str,
) -> dict[str, Tensor]:
    found = {}
    for name, value in own.items():
        if not name.startswith("blocks."):
            continue
        _, index, rest = name.split(".", 2)
        if rest.startswith("attn.qkv"):
            part = rest.rsplit(".", 1)[1]
            for key, third in zip("qkv", value.chunk(3), strict=True):
                found[f"{prefix}.{index}.{attention[key]}.{part}"] = third
            continue
        rest = rest.replace("attn.proj", projection)
        found[f"{prefix}.{index}.{renamed.get(rest, rest)}"] = value
    return found


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
    static = TokenEngine(model, partial(GraphPasses, model.host, record=lambda step: step))
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


Weights = dict[str, Tensor]


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("projector.fc3.bias"), "projector.fc3.bias is missing"),
        (
            without("vision_backbone.featurizer.reg_token"),
            "featurizer.reg_token must have 3 sides, got no",
        ),
        (
            without("vision_backbone.fused_featurizer.patch_embed.proj.weight"),
            "patch_embed.proj.weight must have 4 sides, got no such weight",
        ),
        (lambda all_: all_ | {"odd.weight": torch.zeros(1)}, "odd.weight is unknown"),
        (
            lambda all_: all_ | {"projector.fc1.bias": torch.zeros(3)},
            r"fc1.bias has shape \(3,\), expected \(320,\)",
        ),
        (
            lambda all_: all_ | {"projector.fc1.bias": torch.full((320,), torch.nan).bfloat16()},
            "fc1.bias holds NaN or infinite",
        ),
        (
            lambda all_: all_ | {"projector.fc1.bias": torch.zeros(320, dtype=torch.int8)},
            "of type F32, BF16 or F16, got I8; quantised",
        ),
    ],
)
def test_other_weights_are_one_sentence(
    tmp_path: Path, change: Callable[[Weights], Weights], message: str
) -> None:
    odd = write_folder(tmp_path / "odd", change(random_weights()))
    with pytest.raises(ValueError, match=message):
        read_openvla(odd, OpenVlaChoices(NAME), 0.2)


def edit(file: Path, change: dict[str, Any]) -> None:
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**values, **change}), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_backbone_id": "siglip-vit-so400m"}, "DINOv2 and SigLIP fused, got siglip"),
        (
            {"arch_specifier": "linear"},
            "arch_specifier must be no-align.fused-gelu-mlp, got linear",
        ),
        ({"n_action_bins": 128}, "n_action_bins must be 256, got 128"),
        ({"text_config": {"model_type": "phi"}}, "text_config must be a Llama's"),
        ({"image_sizes": ["28", "28"]}, "image_sizes must be one whole number twice"),
        ({"text_config": {"model_type": "llama", "vocab_size": "a"}}, "vocab_size must be a whole"),
        ({"pad_token_id": 40_000}, "pad_token_id must be a whole number from 0 to 32063"),
        ({"image_sizes": [28, 42]}, r"must be one whole number twice, got \[28, 42\]"),
        ({"image_sizes": [42, 42]}, r"pos_embed has shape \(1, 4, 32\), expected \(1, 9, 32\)"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be the ids behind"),
        ({"norm_stats": None}, "has no norm_stats"),
        ({"norm_stats": {NAME: {"action": {"q01": [0.0]}}}}, "tiny_orig.action: .*q99"),
        ({"norm_stats": {NAME: {"action": {"q01": [0], "q99": [1, 2]}}}}, "tiny_orig.action: bin"),
        ({"norm_stats": {NAME: 3}}, "tiny_orig.action must hold q01, q99 and mask, got None"),
    ],
)
def test_other_configurations_are_one_sentence(
    copied: Path, change: dict[str, Any], message: str
) -> None:
    edit(copied / "config.json", change)
    with pytest.raises(ValueError, match=message):
        read_openvla(copied, OpenVlaChoices(NAME), 0.2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_oirg", r"'tiny_oirg' \(do you mean 'tiny_orig'\?\); .* one of other, tiny_orig"),
        ("", "statistics of 2 data sets; choose one with openvla.norm_key=NAME: other, tiny_orig"),
    ],
)
def test_a_wrong_data_set_names_those_that_there_are(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_openvla(folder, OpenVlaChoices(name), 0.2)


def test_a_tuned_models_own_statistics_come_first(copied: Path) -> None:
    own = {"mine": {"action": {"q01": [-3.0], "q99": [3.0]}}}
    (copied / "dataset_statistics.json").write_text(json.dumps(own))
    found = read_openvla(copied, OpenVlaChoices(), 0.2)
    assert found.model.config.actions == BinStatistics((-3.0,), (3.0,), (True,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (
            lambda path: (path / "model-00002-of-00002.safetensors").unlink(),
            "00002-of-00002.safetensors is missing; copy the whole folder",
        ),
        (
            lambda path: (path / "model-00002-of-00002.safetensors").write_bytes(b"no weights"),
            "is damaged, it holds no weights",
        ),
        (
            lambda path: edit(path / INDEX, {"weight_map": {"a": "../x.safetensors"}}),
            "shards lie in the folder itself, got '../x.safetensors'",
        ),
        (
            lambda path: edit(
                path / INDEX, {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
            ),
            "says that a is in model-00001-of-00002.safetensors, which does not hold it",
        ),
        (
            lambda path: edit(path / "preprocessor_config.json", {"means": [[0.5, 0.5]]}),
            "means must be three numbers per tower",
        ),
        (
            lambda path: (path / "action_head--1.pt").touch(),
            r"action head of its own \(OpenVLA-OFT\)",
        ),
        (
            lambda path: edit(
                path / "tokenizer.json",
                {"model": {"type": "WordLevel", "vocab": {"<s>": 1, "a": 2}, "unk_token": "a"}},
            ),
            "id 29871 must be '▁', as in Llama 2's tokenizer",
        ),
    ],
)
def test_damaged_folders_are_one_sentence(
    copied: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(copied)
    with pytest.raises((ValueError, OSError), match=message):
        read_openvla(copied, OpenVlaChoices(NAME), 0.2)


def test_one_file_of_weights_needs_no_index(copied: Path) -> None:
    for file in [copied / INDEX, *copied.glob("model-*")]:
        file.unlink()
    weights = {name: value.contiguous() for name, value in random_weights().items()}
    safetensors.torch.save_file(weights, copied / "model.safetensors")
    assert read_openvla(copied, OpenVlaChoices(NAME), 0.2).model.host.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "does not say how often actions are sent; give dt=0.2"),
        (("dt=0.2", "check=true"), "check is of LeRobot's folders"),
        (("dt=0.2", "action_low=[0]"), "action_low is of LeRobot's folders"),
        (("dt=0.2", "openvla.num_actions=0"), "openvla.num_actions must be at least 1"),
    ],
)
def test_the_command_says_what_it_lacks(
    folder: Path,
    tmp_path: Path,
    settings: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["import", str(folder), str(tmp_path / "own"), *settings]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "own").exists()
