"""Tasks on real data that every machine has: text and digits."""

from .digits import Digits
from .softmax import Classification
from .text import NextCharacter, python_documentation, read_text

__all__ = ["Classification", "Digits", "NextCharacter", "python_documentation", "read_text"]
