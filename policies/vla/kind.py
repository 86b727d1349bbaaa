"""Vision-language-action policies as a kind of policy."""

from __future__ import annotations

from ..kinds import Kind
from .build import vla_of_checkpoint
from .decoding_config import TokenDecodingConfig
from .model import VlaConfig
from .policy import VlaPolicy

VLA = Kind(VlaConfig, vla_of_checkpoint, TokenDecodingConfig, VlaPolicy)
