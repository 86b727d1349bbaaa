"""Layers as matrix products: what the layers compute, to the last digits of float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hotloop.policies.networks.unet1d import UNet1DDenoiser
from hotloop.policies.programs.engines.products import is_product, product, with_products
from hotloop.policies.programs.program import Call, Program

LAYERS = {
    "linear": lambda: nn.Linear(6, 4),
    "linear, no bias": lambda: nn.Linear(6, 4, bias=False),
    "pointwise": lambda: nn.Conv1d(6, 4, 1),
    "padded": lambda: nn.Conv1d(6, 4, 5, padding=2),
    "unpadded": lambda: nn.Conv1d(6, 4, 3, bias=False),
    "strided": lambda: nn.Conv1d(6, 4, 3, stride=2, padding=1),
    "wide stride": lambda: nn.Conv1d(6, 4, 2, stride=3, padding=1),
    "transposed": lambda: nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1),
    "transposed, odd kernel": lambda: nn.ConvTranspose1d(6, 4, 5, stride=2, padding=2),
    "transposed, longer": lambda: nn.ConvTranspose1d(6, 4, 3, 2, 1, output_padding=1, bias=False),
    "transposed, stride 1": lambda: nn.ConvTranspose1d(6, 4, 3, padding=1),
    "transposed, stride 3": lambda: nn.ConvTranspose1d(6, 4, 7, stride=3),
}


@pytest.mark.parametrize("length", [3, 8, 17])
@pytest.mark.parametrize("name", LAYERS)
def test_a_product_is_its_layer(name: str, length: int) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    x = torch.randn(3, length, 6).double()
    x = x if isinstance(layer, nn.Linear) else x.transpose(1, 2)
    found, expected = product(layer, torch.float64)(x), layer(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-14


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 4, 3, groups=2),
        nn.Conv1d(4, 4, 3, dilation=2),
        nn.Conv1d(4, 4, 3, padding="same"),
        nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose1d(4, 4, 4, groups=2),
        nn.ConvTranspose1d(4, 4, 4, stride=2, output_padding=1),
        nn.Conv2d(4, 4, 3),
    ],
    ids=str,
)
def test_other_layers_stay_what_they_are(layer: nn.Module) -> None:
    assert not is_product(layer)
    with pytest.raises(TypeError, match="no product is known for"):
        product(layer, torch.float32)


@pytest.mark.parametrize("embedding", ["concatenated", "per_position"])
def test_a_whole_network_computes_the_same_and_stays_as_it_was(embedding: str) -> None:
    torch.manual_seed(0)
    network = UNet1DDenoiser(11, 2, 6, dims=(16, 32, 64), level_embedding=embedding, jump=True)
    network = network.double().eval().requires_grad_(False)
    x, level = torch.randn(2, 11, 2).double(), torch.rand(2, 11).double()
    arguments = {"x": "x", "level_modulation": "level", "observation_modulation": "seen"}
    program = Program({}, {}, [Call(Denoising(network), arguments, ("output",))])
    inputs = {
        "x": x,
        "level": network.embed_level(level, torch.rand(2).double()),
        "seen": network.encode(torch.randn(2, 6).double()),
    }
    expected = program.run(inputs)["output"]
    rewritten = with_products(program, torch.float64)
    kinds = {type(one) for one in rewritten.calls[0].module.modules()}
    assert not kinds & {nn.Linear, nn.Conv1d, nn.ConvTranspose1d}
    assert (rewritten.run(inputs)["output"] - expected).abs().max() <= 1e-13
    assert nn.Conv1d in {type(one) for one in network.modules()}


class Denoising(nn.Module):
    """A network whose ``forward`` is its one call."""

    def __init__(self, network: UNet1DDenoiser) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.network.denoise(**inputs)


def test_calls_that_share_a_network_share_its_products() -> None:
    network = UNet1DDenoiser(8, 2, 6, dims=(8, 16))
    calls = [Call(Denoising(network), {}, (name,)) for name in ("one", "two")]
    one, two = (call.module for call in with_products(Program({}, {}, calls), torch.float32).calls)
    assert one is not two and one.network is two.network is not network
