"""Tasks on real data that every machine has: text, digits and flowers."""

from .digits import Digits
from .nodes import Iris, NodeTask
from .softmax import Classification
from .text import NextCharacter, python_documentation, read_text
from .windowed import Windowed

__all__ = [
    "Classification",
    "Digits",
    "Iris",
    "NextCharacter",
    "NodeTask",
    "Windowed",
    "python_documentation",
    "read_text",
]
