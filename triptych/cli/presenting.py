"""Directions for a person: a table of what each was measured to do, and strips of held-out pictures across its range."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.core import GenerativeModel
    from triptych.edit import Direction, Directions

_PICTURES, _VALUES = 2, 7  # of a strip: held-out pictures, and values of the coordinate


def print_table(found: Directions) -> None:
    """A row for each direction, with the depth at which a flow is edited above them."""
    from rich.console import Console
    from rich.table import Table

    title = None if found.depth is None else f"at depth {found.depth}"
    table = Table(title=title, caption=_caption(found))
    for column in ("direction", "held-out", "moves", "leaks most to, in its spreads", "drift", "range (safe)"):
        table.add_column(column, no_wrap=column in ("held-out", "moves"))
    for name, d in found.items():
        leaks = _leaks(d.judged)
        table.add_row(name, _quality(d), _share(d.judged, "share"), leaks, _share(d.judged, "drift"), _ranges(d))
    Console().print(table)


def _share(judged: Mapping[str, Any], measure: str) -> str:
    return f"{judged[measure]:.0%}\n± {judged[f'{measure}_stderr']:.1%}" if measure in judged else ""


def _leaks(judged: Mapping[str, Any]) -> str:
    """The two worst, with their names."""
    worst = sorted(judged.get("leakage", {}).items(), key=lambda item: -abs(item[1]))[:2]
    return ", ".join(f"{other} {change:+.0%}" for other, change in worst)


def _ranges(direction: Direction) -> str:
    low, high = direction.range
    safe = direction.judged.get("safe")
    within = "" if "safe" not in direction.judged else f"\n({safe[0]:.2f} … {safe[1]:.2f})" if safe else "\n(none)"
    return f"{low:.2f} … {high:.2f}{within}"


def _quality(direction: Direction) -> str:
    """What a direction reads of held-out data, with the majority's share, and whether that is more than chance."""
    from triptych.edit.worth import why_worthless

    judged = direction.judged
    if "worthless" not in judged:
        return "not judged" if direction.kind != "unsupervised" else ""
    measure = "r2" if direction.kind == "continuous" else "accuracy"
    majority = f"\n(majority {judged['majority']:.3f})" if "majority" in judged else ""
    verdict = {True: "worthless: ", False: "", None: "too few to tell: "}[judged["worthless"]]
    against = "correlation" if direction.kind == "continuous" else "auc"
    known = judged.get(against) is not None
    chance = f"{judged[against]:.2f}\n(chance {judged['chance']:g} ± {judged['chance_stderr']:.2f})" if known else "unknown"
    against_chance = why_worthless(judged) or f"{against} {chance}"
    return f"{measure} {judged[measure]:.3f} ± {judged['stderr']:.3f}{majority}\n{verdict}{against_chance}"


def _caption(found: Directions) -> str | None:
    worthless = [name for name, d in found.items() if d.judged.get("worthless")]
    return f"worthless on held-out data, edit refuses without --force: {', '.join(worthless)}" if worthless else None


def check_strips(model: GenerativeModel, path: Path) -> None:
    """Raises unless strips of the model's examples can be written there."""
    from triptych.figures import is_writable

    if not model.codec.is_picture or len(model.event_shape) != 3:
        raise TriptychError(f"--strips draws pictures, this model's examples are of shape {model.event_shape}: leave it out")
    if not is_writable(path.name) or path.suffix.lower() == ".gif":
        raise TriptychError(f"--strips {path} should end in .png or another picture's suffix")


def draw_strips(
    model: GenerativeModel, found: Directions, stored: Tensor, path: Path, context: Tensor | None = None
) -> None:
    """A row for each direction: the first held-out pictures with its coordinate from one end of its range to the other."""
    import torch

    from triptych import edit, figures

    few = model.codec.centre(stored[:_PICTURES])
    context = context if context is None or len(context) == 1 else context[:_PICTURES]
    rows = {}
    for name, d in found.items():
        values = torch.linspace(*d.range, _VALUES).tolist()
        swept = edit.sweep(model, few, name, values, found, context=model.check_context(context, len(few)))
        rows[f"{name}\n{d.range[0]:.2g} … {d.range[1]:.2g}"] = model.codec.decode(swept.flatten(0, 1))
    figures.save_rows(rows, path)
