"""Conditions: the attributes that a model is given, and how they become its context.

Shapes: n examples, K numbers in all; context (n, K).

    binary       1 number    −1 or 1                           0 where unknown
    continuous   2 numbers   (a − mean) / std, and 1           0, 0 where unknown
    class        a number for each class, 1 for its own        all 0 where unknown

So zeros say "unknown", of one attribute or of all of them. In training attributes are hidden at random, so that a model can
be asked without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from triptych.errors import TriptychError, check_choice, check_range, unknown
from triptych.parts import Part

Kind = Literal["binary", "continuous", "class"]
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_UNKNOWN = ("unknown", "?")
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Attribute:
    """One attribute: what its values mean, and how many numbers of the context are its own.

    Attributes:
        classes: of a class attribute, the names of its values 0, 1, …
        mean, std: of a continuous one, over the training data.

    >>> age = Attribute.of("age", "continuous", np.array([20.0, 40.0, np.nan]))
    >>> age.mean, age.std, age.encode(torch.tensor([40.0, torch.nan]))
    (30.0, 10.0, tensor([[1., 1.], [0., 0.]]))
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_choice("an attribute's kind", self.kind, get_args(Kind))
        check_range("an attribute's std", self.std, 1e-300, 1e300)
        if (self.kind == "class") != bool(self.classes) or not all(isinstance(c, str) for c in self.classes):
            raise TriptychError(f"attribute {self.name} should have names of classes if it is one, got {self.classes!r:.60}")

    @classmethod
    def of(cls, name: str, kind: Kind, values: np.ndarray, classes: Sequence[str] = ()) -> Attribute:
        """The attribute as training values (n,), NaN where unknown, show it.

        Raises:
            TriptychError: where no value is known, or there are too many classes.
        """
        known = np.asarray(values, np.float64)
        known = known[np.isfinite(known)]
        if not len(known):
            raise TriptychError(f"attribute {name} has no known values: a model cannot be given it, leave it out")
        if known.max() - known.min() <= 1e-6 * abs(known).max() and kind != "class":
            raise TriptychError(
                f"attribute {name} is {known[0]:g} everywhere: a model cannot learn what it means, leave it out"
            )
        if kind == "class":
            names = tuple(classes) or tuple(str(i) for i in range(int(known.max()) + 1))
            if len(names) > _MOST_CLASSES:
                raise TriptychError(f"attribute {name} has {len(names)} classes: a condition takes up to {_MOST_CLASSES}")
            return cls(name, kind, names)
        if kind == "binary":
            return cls(name, kind)
        return cls(name, kind, mean=float(known.mean()), std=float(known.std()))

    @property
    def width(self) -> int:
        """How many numbers of the context it takes."""
        return {"binary": 1, "continuous": 2, "class": len(self.classes)}[self.kind]

    def encode(self, values: Tensor) -> Tensor:
        """Values (n,), NaN where unknown -> (n, width)."""
        known = values.isfinite()
        filled = values.nan_to_num(0.0)
        if self.kind == "binary":
            if (filled < 0).any() or (filled > 1).any():
                raise TriptychError(f"{self.name} should be 0 or 1, got {filled.min():g} to {filled.max():g}")
            return torch.where(known, 2 * filled - 1, 0.0)[:, None]
        if self.kind == "continuous":
            return torch.stack([torch.where(known, (filled - self.mean) / self.std, 0.0), known.to(values.dtype)], 1)
        if (filled < 0).any() or (filled >= len(self.classes)).any():
            raise TriptychError(f"{self.name} should be a class from 0 to {len(self.classes) - 1}, "
                                f"got {filled.min():g} to {filled.max():g}")  # fmt: skip
        return torch.nn.functional.one_hot(filled.long(), len(self.classes)).to(values.dtype) * known[:, None]

    def parse(self, text: str) -> float:
        """The value that a word or a number stands for; NaN for "unknown".

        >>> Attribute("glasses", "binary").parse("yes"), Attribute("digit", "class", ("zero", "one")).parse("one")
        (1.0, 1.0)
        """
        word = text.strip().lower()
        if word in _UNKNOWN:
            return float("nan")
        if self.kind == "class" and text.strip() in self.classes:
            return float(self.classes.index(text.strip()))
        value = _WORDS.get(word) if self.kind == "binary" else None
        try:
            value = float(word) if value is None else value
        except ValueError:
            value = None
        if value is None or not np.isfinite(value) or not self._allows(value):
            raise TriptychError(f"{self.name}={text.strip()}: expected {self._expected()}, or unknown")
        return value

    def read(self, values: Any) -> Tensor:
        """Numbers, or words as `parse` takes them, as float32 (n,)."""
        values = np.atleast_1d(np.asarray(values))
        if values.dtype.kind in "OUS":
            values = np.array([self.parse(str(value)) for value in values], np.float32)
        return torch.as_tensor(values, dtype=torch.float32).reshape(-1)

    def _allows(self, value: float) -> bool:
        if self.kind == "class":
            return value in range(len(self.classes))
        return self.kind == "continuous" or 0 <= value <= 1

    def _expected(self) -> str:
        if self.kind == "class":
            shown = ", ".join(self.classes[:10]) + (", …" if len(self.classes) > 10 else "")
            return f"one of {shown}"
        return "yes, no, or a number from 0 to 1" if self.kind == "binary" else "a finite number"


class Conditions(Part):
    """The attributes that a model is given, in order.

    Args:
        attributes: of which the context is made; as `Attribute`s, or as the mappings that a checkpoint holds.

    >>> given = Conditions([Attribute("glasses", "binary"), Attribute("digit", "class", ("0", "1", "2"))])
    >>> given.encode({"glasses": torch.tensor([1.0, torch.nan]), "digit": torch.tensor([2.0, 0.0])})
    tensor([[1., 0., 0., 1.],
            [0., 1., 0., 0.]])
    >>> given.parse("glasses=no")
    tensor([[-1.,  0.,  0.,  0.]])
    """

    def __init__(self, attributes: Sequence[Attribute | Mapping[str, Any]]):
        self.attributes = tuple(_attribute(a) for a in attributes)
        names = [a.name for a in self.attributes]
        if not names or len(set(names)) < len(names):
            raise TriptychError(f"conditions should be one or more attributes, each once, got {', '.join(names) or 'none'}")

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        attributes: Mapping[str, np.ndarray],
        kinds: Mapping[str, Kind],
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> Conditions:
        """The conditions for named attributes of training data: values (n,), kinds and class names by name, as a split has.

        Raises:
            TriptychError: for a name that the data do not have, with the nearest ones, and for one without known values.
        """
        for name in names:
            if name not in attributes:
                raise unknown("attribute", name, attributes)
        return cls([Attribute.of(n, kinds[n], attributes[n], (classes or {}).get(n, ())) for n in names])

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes' names, in order."""
        return tuple(a.name for a in self.attributes)

    @property
    def dim(self) -> int:
        """K, the length of the context."""
        return sum(a.width for a in self.attributes)

    def of_data(
        self,
        attributes: Mapping[str, np.ndarray],
        kinds: Mapping[str, Kind],
        classes: Mapping[str, Sequence[str]],
        n: int,
    ) -> Tensor:
        """The context (n, K) of data whose attributes may be numbered otherwise: classes are matched by their names.

        Raises:
            TriptychError: for an attribute of another kind than it was, and for a class that the model does not know.
        """
        values = {name: attributes[name] for name in self.names if name in attributes}
        for a in self.attributes:
            if a.name in values and kinds[a.name] != a.kind:
                raise TriptychError(f"attribute {a.name} was {a.kind} in training and is {kinds[a.name]} in these data")
            if a.name in values and (names := tuple(classes.get(a.name, ()))) not in ((), a.classes):
                numbers = np.array([a.parse(name) for name in names], np.float32)
                known = np.isfinite(values[a.name])
                values[a.name] = np.where(known, numbers[np.where(known, values[a.name], 0).astype(int)], np.nan)
        return self.encode(values, n)

    def differ(self, a: Tensor, b: Tensor) -> Tensor:
        """Whether contexts (n, K) contradict each other: in an attribute that both of them know, (n,)."""
        found = torch.zeros(len(a), dtype=torch.bool, device=a.device)
        widths = [attribute.width for attribute in self.attributes]
        for x, y in zip(a.split(widths, 1), b.split(widths, 1), strict=True):
            found |= (x != 0).any(1) & (y != 0).any(1) & (x != y).any(1)
        return found

    def encode(self, values: Mapping[str, Any], n: int | None = None) -> Tensor:
        """Values (n,) by name -> context (n, K), float32. An attribute that is not named is unknown; others are ignored.

        Args:
            n: how many examples; by default as many as the values.
        """
        known = {a.name: a.read(values[a.name]) for a in self.attributes if a.name in values}
        if values and not known:
            raise unknown("condition", next(iter(values)), self.names)
        lengths = {len(v) for v in known.values()} | ({n} if n is not None else set())
        if len(lengths) != 1:
            raise TriptychError(f"conditions expect as many values of each attribute, got {sorted(lengths) or 'none'}")
        (n,) = lengths
        missing = torch.full((n,), torch.nan)
        return torch.cat([a.encode(known.get(a.name, missing)) for a in self.attributes], 1)

    def parse(self, text: str) -> Tensor:
        """A text such as "smile=0.5,glasses=yes" -> context (1, K); attributes that it does not name are unknown.

        Raises:
            TriptychError: for an attribute that the model is not given, and for a value that the attribute cannot have.
        """
        by_name = {a.name: a for a in self.attributes}
        values: dict[str, list[float]] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                raise TriptychError(f"a condition is written name=value, such as {self.names[0]}=1, got {part!r}")
            if name.strip() not in by_name:
                raise unknown("condition", name.strip(), by_name, f" (this model is given {', '.join(by_name)})")
            if name.strip() in values:
                raise TriptychError(f"{name.strip()} is given twice: give it once")
            values[name.strip()] = [by_name[name.strip()].parse(value)]
        return self.encode(values, 1)

    def hide(self, context: Tensor, probability: float) -> Tensor:
        """The context with each attribute of each example made unknown with this probability."""
        hidden = torch.rand(len(context), len(self.attributes), device=context.device) < probability
        widths = torch.tensor([a.width for a in self.attributes], device=context.device)
        return context.masked_fill(hidden.repeat_interleave(widths, 1), 0.0)


def _attribute(given: Attribute | Mapping[str, Any]) -> Attribute:
    if isinstance(given, Attribute):
        return given
    return Attribute(**{**given, "classes": tuple(given.get("classes", ()))})
