"""What `load` returns: splits of stored values, with attributes by name.

Shapes: N examples in a split, B in a batch; `event` is one example's shape, (C, H, W) for pictures, else (D,) or (C, T).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from triptych.data.stored import rows_in_chunk
from triptych.errors import TriptychError

if TYPE_CHECKING:
    import torch

    from triptych.codecs.conditions import Kind


class Source(Protocol):
    """Rows of one dtype: an array, a memory map, or something that draws or reads them on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *event)."""

    @property
    def dtype(self) -> np.dtype:
        """Of the stored values."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any) -> np.ndarray: ...


class Skipped(NamedTuple):
    """A picture that could not be read, and why."""

    name: str
    reason: str


class Mapped(np.memmap):
    """A memory map that is pickled by the name of its file: a worker process gets that instead of the bytes themselves."""

    def __reduce__(self) -> Any:
        end = self.offset + self.nbytes  # of the whole file: a slice has the same offset
        if self.filename and self.flags.c_contiguous and end == Path(self.filename).stat().st_size:
            return Mapped, (self.filename, self.dtype, "r", self.offset, self.shape)
        return np.asarray(self).__reduce__()


class Selected:
    """Some rows of a source that is too large to copy: row i is `source[index[i]]`, read on demand."""

    def __init__(self, source: Source, index: np.ndarray):
        self.source, self.index = source, index
        self.shape, self.dtype = (len(index), *source.shape[1:]), source.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return picked(self.source, self.index[rows])


def in_memory(source: Source) -> bool:
    """Whether indexing neither reads from disk nor draws."""
    return isinstance(source, np.ndarray) and not isinstance(source, np.memmap)


def picked(source: Source, index: np.ndarray) -> np.ndarray:
    """New rows in the order of `index` (B,), from 0; a memory map is read front to back, which saves seeks.

    On one thread, since threads of several runs would wait for each other.
    """
    if in_memory(source):
        return source.take(index, 0)  # type: ignore[attr-defined]  # faster than source[index]
    if not isinstance(source, np.memmap) or np.ndim(index) == 0:
        return np.asarray(source[index])
    order = np.argsort(index, kind="stable")
    rows = np.empty((len(index), *source.shape[1:]), source.dtype)
    rows[order] = source[index[order]]
    return rows


def kind_of(values: np.ndarray) -> Kind:
    """The kind of an attribute that is not a class, by its values (N,): binary where the known ones are all 0 or 1.

    >>> kind_of(np.array([0.0, 1.0, np.nan])), kind_of(np.array([0.0, 0.5]))
    ('binary', 'continuous')
    """
    return "binary" if np.isin(values[~np.isnan(values)], (0, 1)).all() else "continuous"


def fixed_subset(n: int, count: int, seed: int = 0) -> np.ndarray:
    """Indices of `count` of n examples (all of them where n ≤ count): a seed's are always the same, in a random order.

    The first `count` of a sorted set would not be a sample of it.

    >>> fixed_subset(1000, 3).tolist() == fixed_subset(1000, 4)[:3].tolist()
    True
    """
    return np.random.default_rng(seed).permutation(n)[:count]


def divided(split: Split, share: float) -> tuple[Split, Split | None]:
    """A split in two, always in the same way: the examples to learn from, and a share of them to validate by.

    There is no second part where the share is 0, or comes to less than one example.

    >>> learned, held_out = divided(Split(np.arange(20.0)[:, None]), 0.1)
    >>> len(learned), len(held_out), divided(Split(np.arange(4.0)[:, None]), 0.1)[1]
    (18, 2, None)
    """
    count = min(round(share * len(split)), _MOST_VALIDATED, len(split) - 1)
    if count < 1:
        return split, None
    order = fixed_subset(len(split), len(split), seed=1)
    return split.take(np.sort(order[count:])), split.take(np.sort(order[:count]))


_MOST_VALIDATED = 500  # examples that a model is judged by now and then: more would take the time of training


@dataclass(frozen=True, eq=False)
class Split:
    """N stored examples and their attributes.

    Indexing returns torch tensors of the stored dtype: `split[i]` is one example (*event), `split[2:5]` and `split[[4, 0]]`
    are batches (B, *event). `__getitems__` is how a `DataLoader` asks for a whole batch at once.

    Raises:
        TriptychError: for an attribute that does not have one value for each example.

    >>> import numpy as np
    >>> split = Split(np.zeros((4, 1, 8, 8), np.uint8), {"smile": np.array([0, 1, 1, 0])})
    >>> len(split), split.event_shape, split.kinds["smile"], tuple(split[[3, 1]].shape)
    (4, (1, 8, 8), 'binary', (2, 1, 8, 8))
    """

    data: Source
    """Stored values (N, *event): uint8 pictures (N, C, H, W) in 0..255, or float32 of 1 to 3 event dimensions."""
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name to float32 (N,): 0/1, a number, or a class's index; NaN where unknown."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Name to "binary", "continuous" or "class"; by default what the values are."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a class attribute to the names of its values 0, 1, …, where they are known."""
    skipped: tuple[Skipped, ...] = ()
    """Pictures that could not be read, with the reason."""
    columns: tuple[str, ...] = ()
    """Of a table (N, D), the names of its D columns, where they are known."""
    digest: str = ""
    """Tells this training set, in its order, from any other; empty where that is not known."""
    names: tuple[str, ...] = ()
    """The file of each example, relative to its folder; () where examples are not files."""
    rows: np.ndarray | None = None
    """Where each example stood in the file or set that it was read from, (N,) from 0; None where that is not known."""
    depth: tuple[float, ...] = ()
    """How pixels came of deeper values, as `pictures.Depth.numbers` has it; () where they had eight bits."""

    def __post_init__(self) -> None:
        attributes = {name: np.asarray(values, np.float32) for name, values in self.attributes.items()}
        for name, values in attributes.items():
            if values.shape != (len(self.data),):
                raise TriptychError(
                    f"attribute {name!r}: expected {len(self.data)} values, one for each example, got shape {values.shape}"
                )
        data = self.data.view(Mapped) if isinstance(self.data, np.memmap) else self.data
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "attributes", attributes)
        object.__setattr__(self, "kinds", {name: kind_of(v) for name, v in attributes.items()} | dict(self.kinds))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.data.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether the examples are pictures: uint8 (C, H, W)."""
        return self.data.dtype == np.uint8 and len(self.event_shape) == 3

    @property
    def in_memory(self) -> bool:
        """Whether all of it is in memory; if not, `Batches.stream` reads ahead."""
        return in_memory(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
        positions = np.arange(len(self))[index]
        examples = self.__getitems__(np.atleast_1d(positions))
        return examples if np.ndim(positions) else examples[0]

    def __getitems__(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
        """The examples at `indices` (B,) as one new tensor (B, *event).

        Raises:
            IndexError: for what numpy does not take as indices of N examples.
        """
        import torch

        return torch.from_numpy(np.ascontiguousarray(picked(self.data, np.arange(len(self))[indices])))

    def take(self, which: int | Sequence[int] | np.ndarray | torch.Tensor, seed: int = 0) -> Split:
        """A smaller split with its attributes; copied if in memory, else a view.

        Args:
            which: how many examples to draw at random (all of them, where there are no more), always the same ones for a
                seed; or their indices, or a mask (N,), which selects them in that order.
            seed: of what is drawn.

        Raises:
            TriptychError: for a number below 1.
            IndexError: for what numpy does not take as indices of N examples.

        >>> split = Split(np.arange(6, dtype=np.float32)[:, None], {"a": np.arange(6)})
        >>> len(split.take(3)), split.take([4, 0]).attributes["a"].tolist()
        (3, [4.0, 0.0])
        """
        if isinstance(which, int | np.integer):
            if which < 1:
                raise TriptychError(f"take expects at least 1 example to draw, got {which}: give a number, or indices")
            which = fixed_subset(len(self), int(which), seed)
        index = np.arange(len(self))[which]
        data = self.data[index] if self.in_memory else Selected(self.data, index)
        attributes = {name: values[index] for name, values in self.attributes.items()}
        names = tuple(self.names[i] for i in index) if self.names else ()
        rows = None if self.rows is None else self.rows[index]
        return dataclasses.replace(self, data=data, attributes=attributes, names=names, rows=rows, digest="")

    def parts(self) -> Iterator[torch.Tensor]:
        """All examples from first to last, in tensors (n, *event) of bounded size."""
        rows = rows_in_chunk(self.event_shape, self.data.dtype)
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def __repr__(self) -> str:
        where = "" if self.in_memory else ", not in memory"
        names = ", ".join(self.attributes) or "none"
        return f"Split({len(self):,} × {self.event_shape} {self.data.dtype}{where}, attributes: {names})"


class Splits(dict[str, Split]):
    """Splits by name ("train", "test" and perhaps "valid"), also as attributes.

    >>> import numpy as np
    >>> splits = Splits(train=Split(np.zeros((9, 2), np.float32)), test=Split(np.zeros((1, 2), np.float32)))
    >>> len(splits.train), list(splits)
    (9, ['train', 'test'])
    """

    origin: str = ""
    """Where the test split comes from, if it did not come with the data."""
    divided: str = ""
    """How splits were told apart that came with the data."""
    remarks: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """How values were read, and what was left aside, for `summary`."""

    @property
    def summary(self) -> str:
        """What was read, in one line.

        >>> Splits(train=Split(np.zeros((9, 3, 8, 8), np.uint8), {"age": np.arange(9)})).summary
        '9 pictures 3×8×8; attribute age (continuous)'
        """
        train = self["train"]
        what = "picture" if train.is_image else "row" if len(train.event_shape) == 1 else "array"
        shape = "×".join(map(str, train.event_shape)) + (f" ({_some(train.columns)})" if train.columns else "")
        counts = [f"{counted(len(train), what)} {'' if train.is_image else 'of '}{shape}"]
        others = {
            "held out" if self.origin and name == "test" else name: split for name, split in self.items() if name != "train"
        }
        counts += [f"{len(split):,} {name}" for name, split in others.items()]
        counts[-1] += f" ({self.divided})" if self.divided and len(self) > 1 else ""
        named = [f"{name} ({_kind(train, name)})" for name in train.attributes]
        parts = [", ".join(counts)]
        parts += [f"attribute{'s' * (len(named) > 1)} {_some(named)}"] if named else []
        read, aside = self.remarks
        unread = sum(len(split.skipped) for split in self.values())
        aside += (f"{unread:,} unreadable",) if unread else ()
        return "; ".join([*parts, *read, *([f"left aside: {', '.join(aside)}"] if aside else [])])

    def __getattr__(self, name: str) -> Split:
        if name in self:
            return self[name]
        raise AttributeError(f"unknown split {name!r}: choose {' or '.join(self)}")

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {split!r}" for name, split in self.items())


def counted(count: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "file"), counted(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", … {len(names) - most} more" if len(names) > most else "")


def _kind(split: Split, name: str) -> str:
    classes = split.classes.get(name, ())
    return f"{len(classes)} classes" if split.kinds[name] == "class" and classes else split.kinds[name]
