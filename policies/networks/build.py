"""The table of denoising networks, and how one is built by name."""

from __future__ import annotations

from ...decoding.plumbing.plugins import Registry
from .config import NetworkConfig, WindowSizes
from .denoiser import Denoiser

NETWORKS: Registry[type[Denoiser]] = Registry(
    "hotloop.networks",
    "network",
    {
        "mlp": "mlp:MLPDenoiser",
        "unet": "unet1d:UNet1DDenoiser",
        "transformer": "transformer:TransformerDenoiser",
    },
    str(__package__),
)


def build_network(config: NetworkConfig, sizes: WindowSizes) -> Denoiser:
    """Build the network that `config` names.

    The name may come from a checkpoint of unknown origin, so only networks are ever called.

    Raises:
        ValueError: If there is no such network, or a size or choice does not fit it.
        ImportError: If it is a plugin's, or one's own, and cannot be imported.
    """
    network = NETWORKS.get(config.kind)
    if not (isinstance(network, type) and issubclass(network, Denoiser)):
        raise ValueError(
            f"network {config.kind!r} is {network!r}; a network must be a subclass of "
            "hotloop.policies.networks.Denoiser"
        )
    return network.build(config, sizes)
