"""The denoising networks: one contract for all, then what each promises on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hotloop.policies.networks import transformer
from hotloop.policies.networks.denoiser import Denoiser
from hotloop.policies.networks.levels import LevelEmbedding
from hotloop.policies.networks.mlp import MLPDenoiser
from hotloop.policies.networks.transformer import TransformerDenoiser
from hotloop.policies.networks.unet1d import Stage, UNet1DDenoiser

HORIZON, ACTION_DIM, OBSERVATION_DIM = 8, 3, 5
Network = TypeVar("Network", bound=nn.Module)


def unet(
    level_embedding: str, jump: bool = False, horizon: int = HORIZON, num_resolutions: int = 2
) -> UNet1DDenoiser:
    dims = (16, 32, 48)[:num_resolutions]
    sizes = horizon, ACTION_DIM, OBSERVATION_DIM, dims, LevelEmbedding(8)
    return UNet1DDenoiser(*sizes, level_embedding=level_embedding, jump=jump)


NETWORKS: dict[str, Callable[[bool], Denoiser]] = {
    "mlp": lambda jump: MLPDenoiser(HORIZON, ACTION_DIM, OBSERVATION_DIM, 32, 2, 8, jump=jump),
    "unet-concatenated": lambda jump: unet("concatenated", jump),
    "unet-per-position": lambda jump: unet("per_position", jump),
    "transformer": lambda jump: TransformerDenoiser(ACTION_DIM, OBSERVATION_DIM, 16, 2, jump=jump),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def trained(network: Network) -> Network:
    """Give every parameter a value, so that no layer that starts at zero hides another."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network


def make(name: str, jump: bool = False) -> Denoiser:
    return trained(NETWORKS[name](jump))


def inputs(rows: int = 4, horizon: int = HORIZON) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy actions, levels and observations of `rows` rows."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(rows, horizon, ACTION_DIM, generator=generator)
    level = torch.rand(rows, horizon, generator=generator)
    observation = torch.randn(rows, OBSERVATION_DIM, generator=generator)
    return x, level, observation


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def assert_differs(actual: Tensor, expected: Tensor) -> None:
    assert (actual - expected).abs().max() > 1e-3


class TestEveryNetwork:
    @pytest.mark.parametrize(
        ("name", "horizon"),
        [(name, HORIZON) for name in NETWORKS]
        + [("unet-per-position", 2), ("unet-per-position", 12)]
        + [("transformer", 1), ("transformer", 13)],
    )
    def test_output_has_the_shape_of_the_actions(self, name: str, horizon: int) -> None:
        x, level, observation = inputs(horizon=horizon)
        output = make(name)(x, level, observation)
        assert output.shape == x.shape
        assert output.isfinite().all()

    @every_network
    def test_gradient_reaches_every_parameter(self, name: str) -> None:
        network = make(name, jump=True)
        x, level, observation = inputs()
        network(x, level, observation, jump=torch.rand(len(x))).square().sum().backward()
        silent = [
            key
            for key, parameter in network.named_parameters()
            if parameter.grad is None or parameter.grad.abs().max() < 1e-6
        ]
        assert silent == []

    @every_network
    def test_one_ladder_computed_in_advance_serves_each_row_alone(self, name: str) -> None:
        network = make(name)
        x, level, observation = inputs()
        table = network.embed_level(level[:1])
        output = network.denoise(x, table, network.encode(observation))
        for row in range(len(x)):
            alone = slice(row, row + 1)
            assert_close(output[alone], network(x[alone], level[:1], observation[alone]))

    @every_network
    def test_the_level_of_each_end_and_the_observation_matter(self, name: str) -> None:
        network = make(name)
        x, level, observation = inputs()
        output = network(x, level, observation)
        for position in (0, -1):
            other = level.clone()
            other[:, position] = 1 - other[:, position]
            assert_differs(network(x, other, observation), output)
        assert_differs(network(x, level, observation + 0.5), output)

    @every_network
    def test_a_jump_of_zero_changes_nothing_and_a_larger_one_does(self, name: str) -> None:
        network = make(name, jump=True)
        x, level, observation = inputs()
        plain = network(x, level, observation)
        assert torch.equal(network(x, level, observation, jump=torch.zeros(len(x))), plain)
        assert_differs(network(x, level, observation, jump=torch.full((len(x),), 0.5)), plain)

    @every_network
    def test_a_student_starts_as_a_copy_of_its_teacher(self, name: str) -> None:
        """Weights of a network without jump fit one with jump, which then ignores the jump."""
        teacher, student = make(name), NETWORKS[name](True)
        added = student.load_state_dict(teacher.state_dict(), strict=False)
        assert added.unexpected_keys == []
        assert {key.split(".")[-2] for key in added.missing_keys} == {"jump_input"}
        x, level, observation = inputs()
        jumped = student(x, level, observation, jump=torch.ones(len(x)))
        assert_close(jumped, teacher(x, level, observation))

    @every_network
    def test_a_jump_without_jump_conditioning_is_refused(self, name: str) -> None:
        x, level, observation = inputs()
        with pytest.raises(ValueError, match="built without jump conditioning"):
            make(name)(x, level, observation, jump=torch.ones(len(x)))

    # Raised inside the exporter of torch 2.13 about its own code.
    @pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")
    @pytest.mark.parametrize("name", ["unet-concatenated", "unet-per-position", "transformer"])
    def test_onnx_runtime_computes_the_same(self, name: str) -> None:
        network = make(name).eval()
        x, level, observation = inputs()
        program = torch.onnx.export(network, (x, level, observation), dynamo=True, verbose=False)
        assert program is not None
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        names = [argument.name for argument in session.get_inputs()]
        feed = dict(zip(names, (x.numpy(), level.numpy(), observation.numpy()), strict=True))
        (output,) = session.run(None, feed)
        expected = network(x, level, observation).detach().numpy()
        assert np.abs(output - expected).max() < 1e-4


def paper_unet(network: UNet1DDenoiser, x: Tensor, level: Tensor, observation: Tensor) -> Tensor:
    """Three-resolution U-Net whose residual blocks each have a FiLM layer on all conditions."""
    level_weight = torch.cat([layer.weight for layer in network.level_films])
    weight = torch.cat([level_weight, network.observation_film.weight], dim=1)
    bias = torch.cat([layer.bias for layer in network.level_films])
    condition = torch.cat([network.level_encoder(level)[:, 0], observation], dim=1)
    films = F.linear(F.mish(condition), weight, bias)[..., None]
    # Features lie by resolution: down, then middle, then up.
    (down1, down2, down3), (up2, up3) = network.down, network.up
    layout = [down1, down2, up2, down3, network.middle, up3]
    shares = dict(zip(layout, films.split([64, 128, 64, 192, 192, 128], dim=1), strict=True))

    def run(stage: Stage, hidden: Tensor) -> Tensor:
        first, second = shares[stage].chunk(2, dim=1)
        for block, share in ((stage.first, first), (stage.second, second)):
            scale, shift = share.chunk(2, dim=1)
            hidden = block.second(block.first(hidden) * scale + shift) + block.shortcut(hidden)
        return hidden

    skip2 = run(down2, network.downsample[0](run(down1, x.transpose(1, 2))))
    skip3 = run(down3, network.downsample[1](skip2))
    hidden = run(network.middle, skip3)
    hidden = network.upsample[1](run(up3, torch.cat([hidden, skip3], dim=1)))
    hidden = network.upsample[0](run(up2, torch.cat([hidden, skip2], dim=1)))
    return network.head(hidden).transpose(1, 2)


class TestUNet:
    @pytest.mark.parametrize(
        ("level_embedding", "horizon", "millions"),
        [("per_position", 16, 65.8), ("concatenated", 16, 69.7), ("concatenated", 20, 70.8)],
    )
    def test_has_the_published_number_of_parameters(
        self, level_embedding: str, horizon: int, millions: float
    ) -> None:
        """State network of the papers; one embedding of one level is Diffusion Policy's."""
        with torch.device("meta"):
            network = UNet1DDenoiser(
                horizon, 2, 40, (256, 512, 1024), LevelEmbedding(256), level_embedding
            )
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.05)

    def test_agrees_with_the_papers_network_layer_by_layer(self) -> None:
        """One Linear(Mish(concat(level, observation))) per residual block, as published."""
        network = trained(unet("concatenated", num_resolutions=3))
        x, level, observation = inputs()
        assert_close(network(x, level, observation), paper_unet(network, x, level, observation))

    def test_equal_levels_modulate_as_one_vector_for_the_whole_window(self) -> None:
        """A concatenating twin that averages its inputs is the scalar-conditioned network."""
        local = make("unet-per-position")
        weights = local.state_dict()
        joined = weights["level_encoder.input.weight"].repeat(1, HORIZON) / HORIZON
        twin = unet("concatenated")
        twin.load_state_dict({**weights, "level_encoder.input.weight": joined})
        x, level, observation = inputs()
        constant = level[:, :1].expand_as(level)
        assert_close(local(x, constant, observation), twin(x, constant, observation))
        assert_differs(local(x, level, observation), twin(x, level, observation))

    def test_on_a_circle_shifting_actions_and_levels_shifts_the_output(self) -> None:
        """Modulation stays aligned with the actions at every resolution.

        Convolutions wrap around here, as zero padding marks the ends of the window.
        """

        network = trained(unet("per_position", horizon=16, num_resolutions=3))
        for module in network.modules():
            if isinstance(module, nn.Conv1d):
                module.padding_mode = "circular"
        for module in network.upsample:
            module.register_forward_pre_hook(lambda _, x: F.pad(x[0], (1, 1), mode="circular"))
            module.register_forward_hook(lambda _, x, output: output[..., 2:-2])
        x, level, observation = inputs(horizon=16)
        shifted = network(x.roll(4, dims=1), level.roll(4, dims=1), observation)
        output = network(x, level, observation)
        assert_close(shifted, output.roll(4, dims=1))
        assert_differs(network(x.roll(4, dims=1), level, observation), shifted)

    def test_concatenated_levels_refuse_another_length(self) -> None:
        """The convolutions would accept actions that the levels do not belong to."""
        network = make("unet-concatenated")
        (x, level, observation), (long_x, long_level, _) = inputs(), inputs(horizon=12)
        for arguments in ((x, long_level, observation), (long_x, level, observation)):
            with pytest.raises(ValueError, match=r"window of 8 steps, got 12; .*per_position"):
                network(*arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"horizon": 0}, "a window needs at least 1 step, got 0"),
            ({"dims": ()}, r"dims must be positive multiples of 8, got \(\)"),
            ({"dims": (12, 24)}, r"dims must be positive multiples of 8, got \(12, 24\)"),
            ({"level_embedding": "x"}, r"one of \('concatenated', 'per_position'\), got 'x'"),
        ],
    )
    def test_other_sizes_are_refused(self, arguments: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            UNet1DDenoiser(**{"horizon": 8, "action_dim": 3, "observation_dim": 5, **arguments})


class TestTransformer:
    def test_order_enters_through_the_level_modulation_alone(self) -> None:
        network = make("transformer")
        x, level, observation = inputs()
        order = torch.tensor([3, 1, 7, 0, 5, 2, 6, 4])
        modulation, encoded = network.embed_level(level), network.encode(observation)
        output = network.denoise(x, modulation, encoded)
        permuted = network.denoise(x[:, order], modulation[:, order], encoded)
        assert_close(permuted, output[:, order])
        assert_differs(network.denoise(x[:, order], modulation, encoded), output[:, order])

    def test_positions_keep_their_code_when_the_window_grows(self) -> None:
        short = transformer.position_codes(8, 16, torch.device("cpu"))
        long = transformer.position_codes(64, 16, torch.device("cpu"))
        assert torch.equal(long[:8], short)
        assert torch.cdist(long, long).fill_diagonal_(torch.inf).min() > 0.1

    def test_attention_is_the_standard_multi_head_attention(self) -> None:
        block = trained(transformer.TransformerBlock(16, num_heads=2))
        reference = nn.MultiheadAttention(16, 2, batch_first=True)
        reference.in_proj_weight, reference.in_proj_bias = block.qkv.parameters()
        reference.out_proj = block.project
        tokens = torch.randn(4, HORIZON, 16, generator=torch.Generator().manual_seed(3))
        gate_only = torch.zeros(1, 1, 6, 16).index_fill(2, torch.tensor(2), 1).flatten(2)
        normed = F.layer_norm(tokens, (16,))
        attended, _ = reference(normed, normed, normed)
        assert_close(block(tokens, gate_only), tokens + attended)

    def test_blocks_start_as_the_identity(self) -> None:
        network = TransformerDenoiser(ACTION_DIM, OBSERVATION_DIM, 16)
        x, level, observation = inputs()
        tokens = network.action_input(x) + transformer.position_codes(HORIZON, 16, x.device)
        expected = network.head(network.norm(tokens))
        assert_close(network(x, level, observation), expected)

    @pytest.mark.parametrize(("width", "num_heads"), [(15, 3), (16, 3), (16, 0), (0, 1)])
    def test_a_width_that_heads_do_not_divide_is_refused(self, width: int, num_heads: int) -> None:
        with pytest.raises(ValueError, match=f"got width {width} and num_heads {num_heads}"):
            TransformerDenoiser(ACTION_DIM, OBSERVATION_DIM, width=width, num_heads=num_heads)
