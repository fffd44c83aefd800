"""The embedded data set `faces`: portraits drawn, not stored, from eleven attributes that are known exactly.

Every picture is a function of its attributes and every attribute a function of (seed, index), so any subset, in any
order and batch, on any machine, is the same, and what a model learned can be compared with the truth.

Shapes: B pictures, N in a source. Attributes are float32 (B,), pictures uint8 (B, 3, size, size).

| attribute   | kind       | range  | from … to                                            |
|-------------|------------|--------|------------------------------------------------------|
| smile       | continuous | [−1,1] | frown … grin; drawn, without a clamp, over [−2, 2]   |
| age         | continuous | [0,1]  | young … lines on forehead and eyes, half-grey hair   |
| hair_length | continuous | [0,1]  | bald … over the shoulders                            |
| hair_colour | continuous | [0,1]  | black … auburn … blond, of brows and beard too       |
| beard       | continuous | [0,1]  | shaven … stubble … full and long                     |
| skin_tone   | continuous | [0,1]  | light … dark                                         |
| head_turn   | continuous | [−1,1] | turned to the left … to the right edge               |
| light       | continuous | [−1,1] | from the left … from the right edge                  |
| background  | continuous | [0,1]  | blue … stone … apricot                               |
| glasses     | binary     | 0, 1   | without, with                                        |
| earrings    | binary     | 0, 1   | without, with                                        |

Continuous attributes are uniform over their ranges, binary ones are fair coins, and all are independent, unless
`correlate` couples them or `ranges` changes them. As a name, `faces?hair_length:beard=-0.9&smile=-2:2`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import erfc, pi, sin, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from triptych.errors import TriptychError, check_size, unknown

if TYPE_CHECKING:
    import torch

    from triptych.codecs.conditions import Kind

Correlate = Mapping[tuple[str, str], float]
"""Pearson correlations by pair of names."""
Ranges = Mapping[str, tuple[float, float]]
"""Low and high ends by name."""

SIZES = (16, 256)
"""The smallest and the largest side of a picture, in pixels."""
PIXELS_AT_ONCE = 2**19
"""Pixels drawn together: more do not fit the cache, fewer leave the threads idle."""


@dataclass(frozen=True)
class Attribute:
    """One of the numbers that a portrait is drawn from."""

    name: str
    """Its key among the attributes."""
    kind: Kind
    """continuous: uniform over [low, high]; binary: 0 or 1 with equal probability."""
    low: float
    """Lower end of its range in the data set."""
    high: float
    """Upper end of that range."""
    neutral: float
    """The value that `draw` uses by default."""
    reach: float = 1.0
    """`draw` accepts values in `reach` times the range, about its centre."""

    @property
    def drawable(self) -> tuple[float, float]:
        """The values that `draw` accepts; between 0 and 1 a binary attribute is drawn translucent."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return centre - half * self.reach, centre + half * self.reach


_TABLE = (
    Attribute("smile", "continuous", -1, 1, 0.2, 2.0),
    Attribute("age", "continuous", 0, 1, 0.2),
    Attribute("hair_length", "continuous", 0, 1, 0.45),
    Attribute("hair_colour", "continuous", 0, 1, 0.5),
    Attribute("beard", "continuous", 0, 1, 0.0),
    Attribute("skin_tone", "continuous", 0, 1, 0.3),
    Attribute("head_turn", "continuous", -1, 1, 0.0),
    Attribute("light", "continuous", -1, 1, 0.3),
    Attribute("background", "continuous", 0, 1, 0.5),
    Attribute("glasses", "binary", 0, 1, 0.0),
    Attribute("earrings", "binary", 0, 1, 0.0),
)
ATTRIBUTES: dict[str, Attribute] = {attribute.name: attribute for attribute in _TABLE}
"""The attributes of a portrait, by name, in the order of the table above."""


def attributes(
    indices: Sequence[int] | np.ndarray | int,
    *,
    seed: int = 0,
    correlate: Correlate | None = None,
    ranges: Ranges | None = None,
) -> dict[str, np.ndarray]:
    """The attributes of the pictures `indices` of the data set `seed`: each float32 (B,).

    Attribute a of picture i is the uniform number hash(seed, a, i), scaled to a's range; no state passes from one
    picture to the next. `ranges={"smile": (-2, 2)}` replaces the range of a continuous attribute.

    `correlate={("hair_length", "beard"): -0.9}` gives these two the Pearson correlation −0.9 through a Gaussian copula,
    with each still uniform: the normal scores of two uniform attributes get r = 2 sin(πρ/6), of two binary ones
    sin(πρ/2), and of one of each √2 sin(πρ/√12), where |ρ| stays below √3/2 = 0.866.

    Raises:
        TriptychError: for unknown names, for impossible correlations and for ranges that cannot be drawn.

    >>> alone, together = attributes([7])["smile"], attributes([3, 7])["smile"]
    >>> bool(alone[0] == together[1])
    True
    """
    where = np.atleast_1d(np.asarray(indices))
    if where.ndim != 1 or (where.size and (where.dtype.kind not in "iu" or where.min() < 0)):
        raise TriptychError(f"expected indices of at least 0, got {indices!r}")
    ranges, values = ranges or {}, {}
    _check_names(ranges)
    uniform = {name: _uniform(where.astype(np.uint64), name, seed) for name in ATTRIBUTES}
    for name, u in (uniform | _coupled(uniform, correlate or {})).items():
        a = ATTRIBUTES[name]
        (low, high), (bottom, top) = ranges.get(name, (a.low, a.high)), a.drawable
        if a.kind == "binary" and name in ranges:
            raise TriptychError(f"{name} is 0 or 1 and has no range, got ({low}, {high}): leave it out")
        if not bottom <= low <= high <= top:
            raise TriptychError(f"range of {name}: expected {bottom:g} ≤ low ≤ high ≤ {top:g}, got ({low}, {high})")
        values[name] = (u >= 0.5 if a.kind == "binary" else low + (high - low) * u).astype(np.float32)
    return values


def parse_distribution(text: str) -> tuple[Correlate, Ranges]:
    """What follows the question mark in a name such as `faces?hair_length:beard=-0.9&smile=-2:2`: `correlate` and `ranges`.

    Raises:
        TriptychError: for anything but pairs with a correlation and names with a range, joined by &.

    >>> parse_distribution("hair_length:beard=-0.9&smile=-2:2")
    ({('hair_length', 'beard'): -0.9}, {'smile': (-2.0, 2.0)})
    """
    correlate, ranges = {}, {}
    for term in filter(None, text.split("&")):
        names, _, value = term.partition("=")
        try:
            match names.split(":"), [float(number) for number in value.split(":")]:
                case [first, second], [rho]:
                    correlate[first, second] = rho
                case [name], [low, high]:
                    ranges[name] = (low, high)
                case _:
                    raise ValueError
        except ValueError:
            raise TriptychError(
                f"expected faces?hair_length:beard=-0.9 or faces?smile=-2:2, joined by &, got {term!r}"
            ) from None
    return correlate, ranges


def draw(attributes: Mapping[str, Any], size: int = 32, *, device: str | torch.device = "cpu") -> torch.Tensor:
    """Portraits with these attributes: uint8 (B, 3, size, size), in RGB, on `device`.

    Each value is a number or B of them (list, array or tensor); a number goes to every picture, and an attribute that
    is not given has its neutral value. A picture on a CPU has the same bytes whatever it is drawn together with.

    Raises:
        TriptychError: for an unknown attribute, for values that are not finite or not in the attribute's `drawable`
            range, for lists of different lengths, and for a size outside 16 … 256.

    >>> draw({"smile": [-1, 0, 1], "glasses": 1}, size=64).shape
    torch.Size([3, 3, 64, 64])
    """
    import torch

    from triptych.data.portrait import Look, portrait

    check_size("size", size, SIZES[1], SIZES[0])
    _check_names(attributes)
    columns = [_column(a, attributes.get(a.name, a.neutral)).to(device) for a in ATTRIBUTES.values()]
    lengths = {len(column) for column in columns} - {1}
    if len(lengths) > 1:
        raise TriptychError(f"expected one length for all attributes, got {sorted(lengths)}: give B values of each, or one")
    values = torch.stack(torch.broadcast_tensors(*columns))[..., None, None]
    chunks = values.split(PIXELS_AT_ONCE // size**2, 1)
    return torch.cat([portrait(Look(**dict(zip(ATTRIBUTES, chunk, strict=True))), size) for chunk in chunks])


class Faces:
    """N portraits as an array that is drawn on demand: the pictures start, …, start + n − 1 of a seed.

    shape (N, 3, size, size), dtype uint8; `faces[slice | integers | booleans]` is a numpy array, `faces[i]` one picture
    (3, size, size), and `faces.attributes` the truth, by name, float32 (N,). The arguments are those of `attributes`
    and `draw`, with their errors; disjoint stretches of one seed, or different seeds, are disjoint data.

    >>> faces = Faces(60_000, size=32, seed=1)
    >>> faces[10:20].shape, faces.attributes["smile"].shape
    ((10, 3, 32, 32), (60000,))
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        n: int,
        size: int = 32,
        *,
        seed: int = 0,
        start: int = 0,
        correlate: Correlate | None = None,
        ranges: Ranges | None = None,
    ):
        if n < 0 or start < 0:
            raise TriptychError(f"expected n and start of at least 0, got n={n} and start={start}")
        check_size("size", size, SIZES[1], SIZES[0])
        self.shape = (operator.index(n), 3, size, size)
        self.seed, self.start = seed, operator.index(start)
        self.correlate, self.ranges = dict(correlate or {}), dict(ranges or {})
        attributes([], seed=seed, correlate=correlate, ranges=ranges)  # raises here, not where the first picture is read

    @cached_property
    def attributes(self) -> dict[str, np.ndarray]:
        """The truth by name: float32 (N,)."""
        indices = np.arange(self.start, self.start + len(self))
        return attributes(indices, seed=self.seed, correlate=self.correlate, ranges=self.ranges)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = {name: values[rows] for name, values in self.attributes.items()}
        pictures = draw(chosen, self.shape[-1]).numpy()
        return pictures if chosen["smile"].ndim else pictures[0]


def _uniform(indices: np.ndarray, name: str, seed: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float64 (B,): a counter through SplitMix64 (Steele, Lea and Flood, 2014).

    The stream depends on the attribute's name, not its position, so that a new attribute would not change the others.
    """
    key = _mix(_mix(np.array([seed % 2**64], np.uint64)) ^ np.uint64(crc32(name.encode())))
    bits = _mix(key + indices * np.uint64(0x9E3779B97F4A7C15))
    return ((bits >> np.uint64(11)) + 0.5) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, a bijection of 64 bits; arithmetic is modulo 2^64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if name not in ATTRIBUTES:
            raise unknown("attribute of faces", name, ATTRIBUTES)


def _coupled(uniform: dict[str, np.ndarray], correlate: Correlate) -> dict[str, np.ndarray]:
    """The named attributes through a Gaussian copula: u ← Φ(L Φ⁻¹(u)), with L Lᵀ the correlation of the scores.

    Φ and Φ⁻¹ are the standard library's, a number at a time: vector versions may round differently with the batch.
    """
    for pair in correlate:
        if not isinstance(pair, tuple) or len(set(pair)) != 2 or len(pair) != 2:
            raise TriptychError(f"expected a pair of different attributes, got {pair!r}: write ('age', 'beard')")
        _check_names(pair)
    names = [name for name in ATTRIBUTES if any(name in pair for pair in correlate)]
    factor = _factor(names, correlate)
    inverse = NormalDist().inv_cdf
    scores = [np.array([inverse(u) for u in uniform[name].tolist()]) for name in names]
    mixed = [sum(weight * score for weight, score in zip(row, scores, strict=True)) for row in factor]
    cdf = [[erfc(-value / sqrt(2)) / 2 for value in np.asarray(score).tolist()] for score in mixed]
    return {name: np.array(values) for name, values in zip(names, cdf, strict=True)}


def _factor(names: list[str], correlate: Correlate) -> np.ndarray:
    """The Cholesky factor of the normal scores' correlation matrix, in the order of `names`."""
    matrix = np.eye(len(names))
    for pair, rho in correlate.items():
        at = tuple(names.index(name) for name in pair)
        if matrix[at] != 0:
            raise TriptychError(f"expected each pair once, got {pair[0]} with {pair[1]} twice: keep one")
        matrix[at] = matrix[at[::-1]] = _score_correlation(pair, rho)
    if names and np.linalg.eigvalsh(matrix)[0] < 1e-9:
        got = ", ".join(f"{a}:{b}={rho:g}" for (a, b), rho in correlate.items())
        raise TriptychError(f"expected correlations that are possible together (positive definite), got {got}: weaken them")
    return np.linalg.cholesky(matrix)


def _score_correlation(pair: tuple[str, str], rho: float) -> float:
    """The correlation of normal scores that gives two attributes the Pearson correlation rho."""
    binaries = sum(ATTRIBUTES[name].kind == "binary" for name in pair)
    bound = sqrt(3) / 2 if binaries == 1 else 1.0
    if not abs(rho) <= bound:
        raise TriptychError(f"correlation of {pair[0]} and {pair[1]}: expected at most ±{bound:.3g}, got {rho}")
    return (2 * sin(pi * rho / 6), sqrt(2) * sin(pi * rho / sqrt(12)), sin(pi * rho / 2))[binaries]


def _column(attribute: Attribute, value: Any) -> torch.Tensor:
    import torch

    try:
        column = torch.as_tensor(value, dtype=torch.float32).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TriptychError(f"{attribute.name}: expected a number, or one for each picture, got {value!r}") from None
    low, high = attribute.drawable
    wrong = column[~((column >= low) & (column <= high))]  # NaN compares false, so it is wrong as well
    if wrong.numel() or column.ndim > 1:
        got = f"shape {tuple(column.shape)}" if column.ndim > 1 else f"{wrong[0].item():g}"
        raise TriptychError(f"{attribute.name}: expected a list of values in {low:g} … {high:g}, got {got}")
    return column.reshape(-1)
