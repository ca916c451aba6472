"""Next-character prediction on real text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int

from hwsim.contracts.arrays import Array
from hwsim.contracts.errors import InputError
from hwsim.contracts.task import Batch

from .softmax import Classification

CONTEXT = 6
HELD_OUT = 0.1
VALIDATION = 1024
_VALIDATION_SEED = 99


def python_documentation() -> str:
    """The documentation that CPython ships (`pydoc_data.topics`), joined in key order: about 465 k characters.

    Its words differ a little between Python versions; the hash in the results tells which one was read.
    """
    from pydoc_data.topics import topics

    return " ".join(topics[key] for key in sorted(topics))


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        InputError: it is missing, a folder, unreadable, or not UTF-8; the message says where.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no text file {path}; give --text an existing UTF-8 file") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}; "
            f"convert it, for example with iconv -t utf-8"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read the text file {path}: {error.strerror}") from None


@final
@dataclass(frozen=True, kw_only=True)
class NextCharacter(Classification):
    """Predict a character from the six before it, one-hot: M = 6 V inputs for V symbols, V classes.

    The text is lower-cased and its white space folded to single spaces. The last tenth is held out; the validation
    batch is 1024 positions drawn from it once, the same for every run.

    Args:
        text: the corpus.
        units: N of the device that reads it out.

    Raises:
        InputError: empty, a single symbol, or too short to hold out a validation text.
    """

    text: str = field(repr=False)
    units: int

    def __post_init__(self) -> None:
        if not self.text.split():
            raise InputError("the text is empty; give --text a file with some sentences in it")
        held_out = len(self.folded) - self.split
        if held_out <= CONTEXT + 1 or len(self.symbols) < 2:
            raise InputError(
                f"the text is too short: {len(self.folded)} characters and {len(self.symbols)} symbols once folded; "
                f"at least {10 * (CONTEXT + 1) + 1} characters of two symbols are needed"
            )

    @cached_property
    def folded(self) -> str:
        """The text as it is learned: lower case, white space folded."""
        return " ".join(self.text.lower().split())

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The alphabet, sorted."""
        return tuple(sorted(set(self.folded)))

    @property
    def classes(self) -> int:  # type: ignore[override]  # follows from the text
        return len(self.symbols)

    @property
    def inputs(self) -> int:  # type: ignore[override]  # follows from the text
        return CONTEXT * self.classes

    @property
    def split(self) -> int:
        """Index of the first held-out character."""
        return int((1.0 - HELD_OUT) * len(self.folded))

    @cached_property
    def sha256(self) -> str:
        """Hash of the folded text in UTF-8."""
        return hashlib.sha256(self.folded.encode()).hexdigest()

    @cached_property
    def codes(self) -> Int[Array, " characters"]:
        """The text as symbol indices."""
        index = {symbol: code for code, symbol in enumerate(self.symbols)}
        return np.array([index[symbol] for symbol in self.folded], dtype=np.int64)

    def training_batch(self, step: int, size: int, seed: int) -> Batch:
        draw = np.random.default_rng([seed, 2, step])
        return self._at(draw.integers(CONTEXT, self.split, size))

    @cached_property
    def validation(self) -> Batch:
        draw = np.random.default_rng([_VALIDATION_SEED, 3])
        return self._at(draw.integers(self.split + CONTEXT, len(self.folded), VALIDATION))

    def _at(self, positions: Int[Array, " B"]) -> Batch:
        context = self.codes[positions[:, None] - 1 - np.arange(CONTEXT)]
        inputs = np.zeros((len(positions), self.inputs))
        inputs[np.arange(len(positions))[:, None], context + self.classes * np.arange(CONTEXT)] = 1.0
        return Batch(inputs=inputs, targets=self.codes[positions], ids=np.arange(len(positions)))
