"""Pickles of arrays read without running any of what they name.

Published models and annotations are often pickles, of Python 2 at that: of NumPy arrays, and MANO's of SciPy sparse
matrices and chumpy objects too. Every class or function that such a file names is replaced by one that only remembers
what it was called with; arrays are then put together from these memories. No code of NumPy's, SciPy's or chumpy's own
unpickling runs, and what is not on the list is refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from handjax.errors import InputError, UserError

_NUMBER_KINDS = "biuf"


class _Kept:
    """Arguments and state that a pickle gives for an object."""

    args: tuple
    state: Any

    def __new__(cls, *args):
        kept = object.__new__(cls)
        kept.args, kept.state = args, None
        return kept

    def __setstate__(self, state):
        self.state = state

    def value(self) -> Any:
        raise ValueError(f"{type(self).__name__.strip('_').lower()} where an array belongs")


class _Object(_Kept):
    """`object`, a set, a type: what stands in a file's margins and is never read."""


class _Bytes(_Kept):
    """`_codecs.encode(text, "latin1")`: how Python 3 writes bytes in old protocols."""

    def value(self) -> bytes:
        return _raw(self.args[0])


class _Rebuilt(_Kept):
    """`copy_reg._reconstructor(kind, object, None)`: an instance of the kind, whose state follows."""

    def __new__(cls, kind, *_):
        return _Kept.__new__(kind)


class _Dtype(_Kept):
    def value(self) -> np.dtype:
        dtype = np.dtype(str(self.args[0]))
        if dtype.kind not in _NUMBER_KINDS:
            raise ValueError(f"an array of type {dtype}")
        return dtype.newbyteorder(self.state[1]) if self.state else dtype


class _Array(_Kept):
    """An array whose state is (version, shape, dtype, is Fortran's order, bytes, or a list if it is of objects)."""

    def value(self) -> np.ndarray | list[Any]:
        _, shape, dtype, fortran, raw = self.state
        if isinstance(raw, list):
            return _value(raw)
        return np.frombuffer(_raw(raw), dtype.value()).reshape(shape, order="F" if fortran else "C")


class _Buffer(_Kept):
    """`numpy.core.numeric._frombuffer(bytes, dtype, shape, order)` of pickle protocol 5."""

    def value(self) -> np.ndarray:
        raw, dtype, shape, order = self.args
        return np.frombuffer(_raw(raw), dtype.value()).reshape(shape, order=order)


class _Scalar(_Kept):
    def value(self) -> np.generic:
        dtype, raw = self.args
        return np.frombuffer(_raw(raw), dtype.value())[0]


class _Sparse(_Kept):
    """A compressed sparse matrix; rows first, as of csr, unless `by_columns`."""

    by_columns = False

    def value(self) -> np.ndarray:
        data, indices, starts = (_value(self.state[key]) for key in ("data", "indices", "indptr"))
        shape = tuple(int(size) for size in self.state["_shape"])
        dense = np.zeros(shape[::-1] if self.by_columns else shape, data.dtype)
        np.add.at(dense, (np.repeat(np.arange(len(dense)), np.diff(starts)), indices), data)
        return dense.T if self.by_columns else dense


class _SparseByColumns(_Sparse):
    by_columns = True


class _Chumpy(_Kept):
    """A chumpy variable `x`, or one that selects from or reshapes another, `a`."""

    def value(self) -> np.ndarray:
        if "x" in self.state:
            return np.asarray(_value(self.state["x"]))
        array = np.asarray(_value(self.state["a"]))
        if "idxs" in self.state:
            array = array.ravel()[_value(self.state["idxs"])]
        return array.reshape(self.state["newshape"] if "newshape" in self.state else self.state["preferred_shape"])


_ADMITTED: dict[tuple[str, str], type[_Kept]] = {
    ("numpy", "ndarray"): _Object,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
    **{(builtins, name): _Object for builtins in ("__builtin__", "builtins") for name in ("object", "set")},
    **{(module, "_reconstructor"): _Rebuilt for module in ("copy_reg", "copyreg")},
    **{
        (f"numpy.{core}.{module}", name): kept
        for core in ("core", "_core")
        for module, name, kept in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _Buffer),
        )
    },
    **{
        (f"scipy.sparse.{module}", f"{layout}_{kind}"): kept
        for layout, kept in (("csr", _Sparse), ("csc", _SparseByColumns))
        for module in (layout, f"_{layout}")
        for kind in ("matrix", "array")
    },
    **{
        (f"chumpy.{module}", name): _Chumpy
        for module, name in (("ch", "Ch"), ("reordering", "Select"), ("reordering", "Reshape"))
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Kept]:
        kept = _ADMITTED.get((module, name))
        if kept is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:200])
        return kept


def _raw(kept: Any) -> bytes:
    """Bytes that the encoding latin1 may have turned into text."""
    text = _value(kept)
    return text.encode("latin1") if isinstance(text, str) else bytes(memoryview(text))


def _value(kept: Any) -> Any:
    if isinstance(kept, dict):
        return {_value(key): _value(entry) for key, entry in kept.items()}
    if isinstance(kept, list | tuple):
        return type(kept)(_value(entry) for entry in kept)
    return kept.value() if isinstance(kept, _Kept) else kept


def read_pickle(path: Path, remedy: str, error: type[UserError] = InputError) -> dict[Any, Any]:
    """Reads a pickled dictionary of arrays, of any Python version, without running anything it names.

    Args:
        path: the file.
        remedy: what to do about a file that is none, such as where to get it.
        error: what to raise.

    Returns:
        What `parse_pickle` makes of it.

    Raises:
        error: the file is missing, or no pickle of a dictionary that `parse_pickle` reads.
    """
    try:
        raw = path.read_bytes()
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror}); {remedy}") from failure
    content = parse_pickle(raw, str(path), remedy, error)
    if not isinstance(content, dict):
        raise error(f"{path}: no pickle of plain arrays (it holds a {type(content).__name__}, no dictionary); {remedy}")
    return content


def parse_pickle(raw: bytes, name: str, remedy: str, error: type[UserError] = InputError) -> Any:
    """Reads a pickle of any Python version without running anything it names.

    Args:
        raw: the pickle.
        name: says in errors where it came from.
        remedy: what to do about what is no pickle.
        error: what to raise.

    Returns:
        Arrays, numbers and strings, also in dictionaries, lists and tuples of them; sparse matrices are dense, chumpy
        objects are their values, an array of objects is the list of them.

    Raises:
        error: it is no pickle, or names anything but NumPy arrays, SciPy's csc and csr matrices and chumpy's variables.
    """
    try:
        return _value(_Unpickler(io.BytesIO(raw), fix_imports=False, encoding="latin1").load())
    # the ways in which an unpickler fails on what was not meant for it have no common base
    except Exception as failure:
        reason = str(failure).split("\n")[0]
        raise error(f"{name}: no pickle of plain arrays ({reason}); {remedy}") from failure
