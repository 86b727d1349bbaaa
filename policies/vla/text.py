"""Text tokens: a small byte-level vocabulary learnt from the instructions, or a host's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

PAD, IMAGE = "<pad>", "<image>"
PAD_ID, IMAGE_ID = 0, 1


def train_text_tokenizer(texts: Sequence[str], vocabulary_size: int = 384) -> dict[str, Any]:
    """Learn a byte-level BPE vocabulary; return it as the `tokenizers` library writes it.

    Every text can be written in it: the 256 bytes are part of the vocabulary. Ids 0 and 1 are the
    padding and the image token.

    Args:
        texts: Instructions of the training data.
        vocabulary_size: Largest number of ids.
    """
    tokenizers = import_tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, IMAGE],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return json.loads(tokenizer.to_str())


def load_text_tokenizer(described: dict[str, Any]) -> Any:
    """Tokenizer of the `tokenizers` library from its JSON.

    Raises:
        ValueError: If the JSON describes no tokenizer.
    """
    if "model" not in described:
        raise ValueError(f"not a text tokenizer: expected a key 'model', got {sorted(described)}")
    return import_tokenizers().Tokenizer.from_str(json.dumps(described))


def import_tokenizers() -> Any:
    """The `tokenizers` package, or an ImportError that says how to get it."""
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ImportError(
            "vision-language policies need transformers: pip install 'hotloop[vla]'"
        ) from error
    return tokenizers


def import_transformers() -> Any:
    """The `transformers` package, or an ImportError that says how to get it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "vision-language policies need transformers: pip install 'hotloop[vla]'"
        ) from error
    return transformers
