"""The project's one compiler decorator and its disk cache.

Numba's `cache=True` stamps a cached kernel with the source of its own file only: after an edit of a callee in another
file it goes on serving the old machine code (numba issue 1833).  Here every kernel carries one stamp, a hash over all
of this folder, so that any edit of any kernel recompiles all of them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

Scalar: TypeAlias = Any
"""A number of a kernel, float32 or float64 (or a word): the compiler knows its type, a type checker cannot."""

_UNCOUNTED: Any = {"_nrt": False}
"""Without Numba's runtime, which allocates arrays and counts references to them."""
_Function = TypeVar("_Function", bound=Callable[..., object])


def _stamp(folder: Path) -> str:
    """Hash over the names and contents of all Python files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    """A short name for these words."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


_STAMP = _stamp(Path(__file__).parent)


class _Files(IndexDataCacheFile):
    """The files of one kernel, each named after what it holds.

    Numba numbers them, and takes the next number that it sees: of two processes that compile two variants of a kernel
    at the same time, one would from then on run the machine code of the other.
    """

    def save(self, key: Any, data: Any) -> None:
        """The machine code first and its name after it, so that a name in the index is that of a whole file."""
        known = self._load_index()
        if not known:  # new, or of other sources
            for old in Path(self._cache_path).glob(self._index_name.removesuffix("nbi") + "*.nbc"):
                old.unlink(missing_ok=True)
        name = f"{self._index_name.removesuffix('nbi')}{_digest(self._source_stamp, repr(key))}.nbc"
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except (AttributeError, ImportError):  # it was written by other sources, and names a type that they had
            return {}


class _FolderCache(FunctionCache):
    """Numba's own cache, at the place that Numba chooses (NUMBA_CACHE_DIR, `__pycache__`, or the user's cache folder
    where the package is read-only), with the stamp of the whole folder in place of the stamp of one file."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, _STAMP)


def kernel(
    *, fastmath: frozenset[str] = frozenset({"contract"}), inline: bool = False
) -> Callable[[_Function], _Function]:
    """Compile a function to machine code that needs no interpreter, allocates nothing and counts no references.

    All memory comes from the caller: what would allocate does not compile.  Counting references to arrays would cost
    atomic operations at every view and every branch, more than the sums where one lane of 64 units runs.

    Args:
        fastmath: LLVM flags.  The default allows fused multiply-add and nothing else: NaN and infinity keep their
            meaning and no sum is reordered.
        inline: the function is always inlined into its caller before types are inferred, which compiles faster than
            inlining machine code; it takes its caller's flags, and is not stored on disk by itself.

    Returns:
        A decorator.  With `NUMBA_DISABLE_JIT=1` it leaves the function as it is; products need the compiler.

    Cost: compiled at the first call for each set of argument types, then loaded from disk.
    """

    def compile_lazily(function: _Function) -> _Function:
        how: Literal["always", "never"] = "always" if inline else "never"
        jit = numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath), inline=how, **_UNCOUNTED)
        compiled: Any = jit(function)
        if compiled is not function and not inline:
            compiled._cache = _FolderCache(function)
        return compiled

    return compile_lazily
