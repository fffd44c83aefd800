"""What "+1" moves where codes overlap and attributes are correlated: random linear-Gaussian models, of which all is known.

z = V a + e with a of 2 to 4 attributes (some of two classes), correlated by up to ±0.9, V and the covariance of e at random,
z of 2 to 6 dimensions. Directions are learned from n examples and judged on n others; what "+1" adds to z is then read
by the true model: by unbiased estimates of all attributes at once, (VᵀΣ⁻¹V)⁻¹VᵀΣ⁻¹, where z has as many dimensions as there
are attributes, and by the best reading of the one attribute (triptych/edit/joint.py) in any case.

    python benchmarks/overlapping.py                          1,000 models, three methods
    python benchmarks/overlapping.py --run RUN                a run of the drawn faces, edits read by the independent judge
    TRIPTYCH_DATA=… python benchmarks/overlapping.py --data celeba10k     codes that are principal components of photographs
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from common import arguments, begin, lengths, write
from judging import READER_STEPS, reader_of
from torch import Tensor

import triptych
from triptych import edit
from triptych.capabilities import Encodes
from triptych.codecs import Floats
from triptych.core import GenerativeModel
from triptych.data import load

METHODS = ("joint", "means", "regression")
_CORRELATED, _LEARNED_FROM = 0.9, 9_000


class Identity(GenerativeModel, Encodes):
    """x = z."""

    def __init__(self, dim: int):
        super().__init__((dim,), dim, Floats())

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x


class Truth(NamedTuple):
    """z = V a + e: V (L, A), cov Σ (L, L) of e, spread (A, A) the covariance of a; two classes are −1 and +1."""

    v: Tensor
    cov: Tensor
    spread: Tensor

    def unbiased(self) -> Tensor:
        """Readings of all attributes at once, (A, L), with readings · V = I."""
        by = torch.linalg.solve(self.cov, self.v)
        return torch.linalg.solve(self.v.T @ by, by.T)

    def best(self, j: int) -> Tensor:
        """The reading of attribute j alone with the least error, (L,)."""
        others = [k for k in range(self.v.shape[1]) if k != j]
        noise = self.cov + self.v[:, others] @ self.spread[others][:, others] @ self.v[:, others].T
        by = torch.linalg.solve(noise, self.v[:, j])
        return by / (by @ self.v[:, j])


def random_model(g: torch.Generator, n: int) -> tuple[Tensor, Tensor, Truth]:
    """z (2n, L), a (2n, A) and what is true of them."""
    dims, count = (int(torch.randint(low, high, (), generator=g)) for low, high in ((2, 7), (2, 5)))
    factors = torch.randn(count, count, generator=g, dtype=torch.float64)
    cov = factors @ factors.T
    correlation = cov / cov.diagonal().sqrt() / cov.diagonal().sqrt()[:, None]
    largest = (correlation - torch.eye(count)).abs().max()
    correlation = torch.lerp(torch.eye(count, dtype=torch.float64), correlation, (_CORRELATED / largest).clamp(max=1))
    a = torch.randn(2 * n, count, generator=g, dtype=torch.float64) @ torch.linalg.cholesky(correlation).T
    binary = torch.rand(count, generator=g) < 1 / 3
    a = torch.where(binary, torch.where(a > 0.5, 1.0, -1.0), a)
    v = torch.randn(dims, count, generator=g, dtype=torch.float64)
    root = torch.randn(dims, dims, generator=g, dtype=torch.float64) / math.sqrt(dims) + 0.3 * torch.eye(dims)
    z = a @ v.T + torch.randn(2 * n, dims, generator=g, dtype=torch.float64) @ root.T
    return z.float(), a.float(), Truth(v, root @ root.T, a.T.cov())


def measured(g: torch.Generator, n: int, method: edit.learning.Method) -> list[dict]:
    """A row for each attribute of one model: what "+1" moves by both readings, their errors, and whether it is refused."""
    z, a, truth = random_model(g, n)
    names = [f"a{j}" for j in range(a.shape[1])]
    train, test = ({name: part[:, j] for j, name in enumerate(names)} for part in (a[:n], a[n:]))
    model = Identity(z.shape[1])
    found = edit.judge(model, edit.learn_directions(model, z[:n], train, method=method), z[n:], test)
    centred = (a[:n] - a[:n].mean(0)).double()
    errors = torch.linalg.inv(centred.T @ centred).diagonal()
    rows = []
    for j, name in enumerate(names):
        step, best = found[name].step.double(), truth.best(j)
        row = {"best": float(best @ step), "best_error": float(best @ truth.cov @ best * errors[j]) ** 0.5}
        if a.shape[1] <= z.shape[1]:
            every = truth.unbiased()[j]
            row |= {"all": float(every @ step), "all_error": float(every @ truth.cov @ every * errors[j]) ** 0.5}
        rows.append(row | {"refused": bool(found[name].judged["worthless"]), "slope": found[name].judged.get("slope")})
    return rows


def summary(rows: list[dict]) -> dict:
    """Of what is not refused: quantiles of what "+1" moved, how often that was backwards, how often its error covers 1."""
    kept = [row for row in rows if not row["refused"]]
    found: dict = {"directions": len(rows), "refused": len(rows) - len(kept)}
    for reading in ("best", "all"):
        moved = torch.tensor([row[reading] for row in kept if reading in row])
        errors = torch.tensor([row[f"{reading}_error"] for row in kept if reading in row])
        off = ((moved - 1) / errors).abs()
        found[reading] = {
            "n": len(moved),
            "quantiles_1_50_99": [round(q, 3) for q in moved.quantile(torch.tensor([0.01, 0.5, 0.99])).tolist()],
            "worst": [round(float(moved.min()), 3), round(float(moved.max()), 3)],
            "backwards": int((moved <= 0).sum()),
            "within_1_error": round(float((off < 1).float().mean()), 3),
            "within_2_errors": round(float((off < 2).float().mean()), 3),
            "most_errors_off": round(float(off.max()), 1),
            "errors_over_half": int((errors > 0.5).sum()),
            "backwards_with_errors_below_half": int(((moved <= 0) & (errors <= 0.5)).sum()),
        }
    return found


def random_models(out: Path, count: int, n: int, methods: list[str]) -> None:
    results: dict = {"models": count, "n": n}
    for method in methods:
        g = torch.Generator().manual_seed(0)
        results[method] = summary([row for _ in range(count) for row in measured(g, n, method)])
    write(out, "random_models", results)


def faces(out: Path, folder: Path, methods: list[str], reader_steps: int) -> None:
    """Directions of a run of the drawn faces by each method: what the independent judge reads of their edits, held out."""
    model, splits = triptych.load(folder), load("faces", size=32)
    reader, train, results = reader_of(out, "faces", splits, reader_steps), splits.train.take(_LEARNED_FROM), {}
    for method in methods:
        found = edit.learn_directions(model, train[:], train.attributes, method=method)
        judged = edit.judge(model, found, splits.test[:], splits.test.attributes, reader=reader)
        results[method] = {name: row(d.judged) for name, d in judged.items()}
    write(out, folder.name, results)


def components(out: Path, name: str, count: int, methods: list[str]) -> None:
    """Directions of the standardised principal components of pictures: how well each method reads held-out attributes."""
    splits = load(name, size=32)
    train, test = (split[:].float().flatten(1) for split in (splits.train, splits.test))
    centre = train.mean(0)
    axes = torch.linalg.eigh((train - centre).T @ (train - centre))[1][:, -count:]
    spread = ((train - centre) @ axes).std(0)
    z, held_out = (((part - centre) @ axes) / spread for part in (train, test))
    results: dict = {"learned_from": len(z), "held_out": len(held_out), "components": count}
    for method in methods:
        found = edit.learn_directions(Identity(count), z, splits.train.attributes, method=method)
        judged = edit.judge(Identity(count), found, held_out, splits.test.attributes)
        rows = {name: row(d.judged) | {"accuracy": round(d.judged["accuracy"], 3)} for name, d in judged.items()}
        keys = {"accuracy", "auc", "slope"}.intersection(*rows.values())
        results[method] = {"mean": {key: round(mean([r[key] for r in rows.values()]), 3) for key in sorted(keys)}, **rows}
    write(out, name, results)


def row(judged: dict) -> dict:
    worst = max(judged["leakage"], key=lambda other: abs(judged["leakage"][other]))
    kept = {key: round(judged[key], 3) for key in ("share", "r2", "auc", "slope") if judged.get(key) is not None}
    return kept | {"leakage": round(abs(judged["leakage"][worst]), 3), "leaks_to": worst}


def main() -> None:
    parser = arguments(__doc__, "overlapping")
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--components", type=int, default=128)
    lengths(parser, reader_steps=READER_STEPS)
    options = parser.parse_args()
    out = begin(options)
    if options.data:
        components(out, options.data, options.components, options.methods.split(","))
    elif options.run:
        faces(out, options.run, options.methods.split(","), options.reader_steps)
    else:
        random_models(out, options.models, options.n, options.methods.split(","))


if __name__ == "__main__":
    main()
