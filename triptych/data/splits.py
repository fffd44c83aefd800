"""What `load` returns: splits of stored values, with attributes by name.

Shapes: N data in a split, B in a batch; `event` is the shape of one datum, (C, H, W) for pictures, else (D,) or (C, T).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

Kind = Literal["binary", "continuous", "class"]


class Source(Protocol):
    """Rows of one dtype: an array, a memory map, or something that draws or reads them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any) -> np.ndarray: ...


class Skipped(NamedTuple):
    """A picture that could not be read, and why."""

    name: str
    reason: str


class Selected:
    """Some rows of a source that is too large to copy: row i is `source[index[i]]`, read when asked for."""

    def __init__(self, source: Source, index: np.ndarray):
        self.source, self.index = source, index
        self.shape, self.dtype = (len(index), *source.shape[1:]), source.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return _rows(self.source, self.index[rows])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": _portable(self.source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, source=_reopened(state["source"]))


class _File(NamedTuple):
    """A memory map by name: what a worker process gets in place of the bytes themselves."""

    path: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]


def _portable(source: Any) -> Any:
    if isinstance(source, np.memmap) and source.filename is not None and source.flags.c_contiguous:
        return _File(str(source.filename), source.dtype, source.offset, source.shape)
    return source


def _reopened(source: Any) -> Any:
    if isinstance(source, _File):
        return np.memmap(source.path, source.dtype, "r", source.offset, source.shape)
    return source


def in_memory(source: Source) -> bool:
    """Whether indexing costs no disk and no drawing."""
    return isinstance(source, np.ndarray) and not isinstance(source, np.memmap)


def _rows(source: Source, index: np.ndarray) -> np.ndarray:
    """Rows in the order asked for; a map on disk is read front to back, which spares it seeks."""
    if isinstance(source, np.ndarray) and not isinstance(source, np.memmap):
        return source.take(index, 0)  # faster than source[index]
    if not isinstance(source, np.memmap) or np.ndim(index) == 0:
        return np.asarray(source[index])
    order = np.argsort(index, kind="stable")
    rows = np.empty((len(index), *source.shape[1:]), source.dtype)
    rows[order] = source[index[order]]
    return rows


def _kind(values: np.ndarray) -> Kind:
    return "binary" if np.isin(values[~np.isnan(values)], (0, 1)).all() else "continuous"


@dataclass(frozen=True, eq=False)
class Split:
    """N stored data and what is known of each.

    Indexing gives torch tensors of the stored dtype: `split[i]` one datum (*event), `split[2:5]` and `split[[4, 0]]`
    a batch (B, *event). `__getitems__` is how a `DataLoader` asks for a whole batch at once.

    >>> import numpy as np
    >>> split = Split(np.zeros((4, 1, 8, 8), np.uint8), {"smile": np.array([0, 1, 1, 0])})
    >>> len(split), split.event_shape, split.kinds["smile"], tuple(split[[3, 1]].shape)
    (4, (1, 8, 8), 'binary', (2, 1, 8, 8))
    """

    data: Source
    """Stored values (N, *event): uint8 pictures (N, C, H, W) in 0..255, or float32 of 1 to 3 event dimensions."""
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    """Name to float32 (N,): 0/1, a number, or a class's index; NaN where it is not known."""
    kinds: dict[str, Kind] = field(default_factory=dict)
    """Name to "binary", "continuous" or "class"."""
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a class attribute to what its indices 0, 1, … are called, where that is known."""
    skipped: list[Skipped] = field(default_factory=list)
    """Pictures that could not be read, with the reason."""

    def __post_init__(self) -> None:
        for name, raw in self.attributes.items():
            values = np.asarray(raw, np.float32)
            if values.shape != (len(self.data),):
                raise TriptychError(
                    f"attribute {name!r}: expected {len(self.data)} values, one a datum, got shape "
                    f"{values.shape}; give one number for each datum"
                )
            self.attributes[name] = values
            self.kinds.setdefault(name, _kind(values))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return tuple(self.data.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether the data are pictures: uint8 (C, H, W)."""
        return self.data.dtype == np.uint8 and len(self.event_shape) == 3

    @property
    def in_memory(self) -> bool:
        """Whether all of it is in memory; if not, `Batches.stream` reads ahead."""
        return in_memory(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
        if isinstance(index, slice):
            return self.__getitems__(np.arange(*index.indices(len(self))))
        one = np.ndim(index) == 0
        return self.__getitems__([int(index)])[0] if one else self.__getitems__(index)  # type: ignore[arg-type]

    def __getitems__(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
        """The data at `indices` (B,) as one new tensor (B, *event)."""
        import torch

        return torch.from_numpy(self.rows(indices))

    def rows(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """The same as a new array; on one thread, for threads of several runs would wait for each other."""
        return np.ascontiguousarray(_rows(self.data, self._checked(indices)))

    def take(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> Split:
        """The split of these data, in this order; copied when in memory, a view when too large for that."""
        index = self._checked(indices)
        data = self.data[index] if self.in_memory else Selected(self.data, index)
        attributes = {name: values[index] for name, values in self.attributes.items()}
        return Split(data, attributes, dict(self.kinds), dict(self.classes), list(self.skipped))

    def _checked(self, indices: Any) -> np.ndarray:
        """Indices (B,) as int64 in 0..N−1; negative ones count from the end, and N booleans choose."""
        index = np.asarray(indices) if len(indices) else np.empty(0, np.int64)
        if index.dtype == np.bool_ and index.shape == (len(self),):
            index = np.flatnonzero(index)
        if index.dtype.kind not in "iu" or index.ndim != 1:
            raise IndexError(f"expected whole numbers (B,) or {len(self)} booleans, got {index.dtype} {index.shape}")
        index = index.astype(np.int64, copy=False)
        if index.size and (index.min() < -len(self) or index.max() >= len(self)):
            raise IndexError(f"expected indices in 0..{len(self) - 1}, got {index.min()}..{index.max()}")
        return np.where(index < 0, index + len(self), index) if index.size and index.min() < 0 else index

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": _portable(self.data)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, data=_reopened(state["data"]))

    def __repr__(self) -> str:
        where = "" if self.in_memory else ", not in memory"
        names = ", ".join(self.attributes) or "none"
        return f"Split({len(self):,} × {self.event_shape} {self.data.dtype}{where}, attributes: {names})"


class Splits(Mapping[str, Split]):
    """Splits by name ("train", "test" and perhaps "valid"), also as attributes.

    >>> import numpy as np
    >>> splits = Splits(train=Split(np.zeros((9, 2), np.float32)), test=Split(np.zeros((1, 2), np.float32)))
    >>> len(splits.train), list(splits)
    (9, ['train', 'test'])
    """

    def __init__(self, **splits: Split):
        self._splits = splits

    def __getitem__(self, name: str) -> Split:
        return self._splits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __getattr__(self, name: str) -> Split:
        splits = self.__dict__.get("_splits", {})  # absent while pickle builds the object
        if name in splits:
            return splits[name]
        raise AttributeError(f"there is no split {name!r}; there are {', '.join(splits)}")

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {split!r}" for name, split in self.items())
