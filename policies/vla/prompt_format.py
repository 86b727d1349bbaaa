"""What stands around an instruction in a prompt, and where the pictures are."""

from __future__ import annotations

from dataclasses import dataclass

INSTRUCTION = "{instruction}"


@dataclass(frozen=True)
class PromptFormat:
    """How a host is asked.

    Attributes:
        template: Text of the prompt; ``"{instruction}"`` stands for the instruction.
        lower: Whether the instruction is written in small letters.
        head: Token ids at the very beginning, which the pictures follow; with none, the pictures
            stand behind the text. Padding stands in front of the text.
    """

    template: str = INSTRUCTION
    lower: bool = False
    head: tuple[int, ...] = ()

    @property
    def pictures_first(self) -> bool:
        """Whether the pictures stand in front of the text."""
        return bool(self.head)

    def text(self, instruction: str) -> str:
        """The prompt's text for an instruction."""
        return self.template.replace(
            INSTRUCTION, instruction.lower() if self.lower else instruction
        )
