"""Vision-language-action policies whose actions are tokens, decoded in few forwards."""

from .build import pretrained_vla, tiny_vla
from .decoding_config import TokenDecodingConfig
from .host import Host, TinyHost
from .model import VlaConfig, VlaModel
from .policy import VlaPolicy
from .tokenizer import ActionTokenizer, BinStatistics, UniformBins

__all__ = [
    "ActionTokenizer",
    "BinStatistics",
    "Host",
    "TinyHost",
    "TokenDecodingConfig",
    "UniformBins",
    "VlaConfig",
    "VlaModel",
    "VlaPolicy",
    "pretrained_vla",
    "tiny_vla",
]
