"""The results of `hinge.py` as markdown: a table for each data set, size, budget and number of examples."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def print_table(folder: Path, titles: Mapping[str, str]) -> None:
    """All results in a folder; several seeds of one kind share a row, with their spread (largest less smallest)."""
    groups: dict[tuple, list[Result]] = defaultdict(list)
    for path in sorted(folder.glob("*_seed*.json")):
        result = json.loads(path.read_text())
        if "quality" in result:
            groups[result["data"], result["size"], result["seconds"], result["examples"]].append(result)
    for (data, size, seconds, examples), results in sorted(groups.items()):
        print(f"\n**{data} {size}×{size}, {seconds:,} s of one core, {examples:,} examples**\n")
        print("| | " + " | ".join(COLUMNS) + " |")
        print("|" + "---|" * (len(COLUMNS) + 1))
        print("| real data | " + " | ".join(floor(results[0])) + " |")
        for kind, title in titles.items():
            for label in sorted({r["label"] for r in results if r["kind"] == kind}):
                rows = [r for r in results if r["kind"] == kind and r["label"] == label]
                called = f"{title}, {label}" if label else title
                print(f"| {called}{f' ({len(rows)} seeds)' if len(rows) > 1 else ''} | " + " | ".join(row(rows)) + " |")


def row(results: Sequence[Result]) -> list[str]:
    return [cell(results, *column) for column in COLUMNS.values()]


def cell(results: Sequence[Result], read: Callable[[Result], float | None], show: str) -> str:
    values = [v for r in results if (v := read(r)) is not None]
    if not values:
        return "–"
    mean = format(statistics.fmean(values), show)
    return mean if len(values) == 1 else f"{mean} ({format(max(values) - min(values), show)})"


def measure(name: str) -> Callable[[Result], float | None]:
    return lambda r: r["quality"][name]["value"]


def floor(result: Result) -> list[str]:
    """Real data's own, for the measures that have it."""
    found = []
    for title, (_, show) in COLUMNS.items():
        known = result["quality"].get(_FLOORS.get(title, ""), {})
        found.append(format(known["floor"], show) if "floor" in known else "")
    return found


def likelihood(r: Result) -> float | None:
    return r["likelihood"].get("bits_per_dim", {}).get("value")


def smile(field: str) -> Callable[[Result], float | None]:
    return lambda r: r.get("smile", {}).get(field)


def smile_at_depth(field: str) -> Callable[[Result], float | None]:
    """Of a flow, where it is edited by default: the depth that leaks least for what it moves."""

    def read(r: Result) -> float | None:
        found = r.get("smile_at_depth")
        return found["depths"][str(found["best"])][field] if found else None

    return read


_FLOORS = {
    "Fréchet": "fid",
    "precision": "precision",
    "recall": "recall",
    "told apart, nearest": "c2st_1nn",
    "told apart, logistic": "c2st_logistic",
    "ms-ssim": "ms_ssim",
}
COLUMNS: dict[str, tuple[Callable[[Result], float | None], str]] = {
    **{title: (measure(name), ".3g") for title, name in _FLOORS.items()},
    "bits/dim": (likelihood, ".3f"),
    "reconstruction": (lambda r: r.get("reconstruction_rmse", {}).get("value"), ".2g"),
    "smile moves": (smile("share"), ".0%"),
    "drags": (smile("leakage"), ".0%"),
    "at a depth moves": (smile_at_depth("share"), ".0%"),
    "drags there": (smile_at_depth("leakage"), ".0%"),
    "sample 64, s": (lambda r: r["sample_64_cpu_seconds"], ".2g"),
    "encode 64, s": (lambda r: r.get("encode_64_cpu_seconds"), ".2g"),
    "MB": (lambda r: r["megabytes"], ".1f"),
    "peak MB": (lambda r: r["training_peak_megabytes"], ".0f"),
    "steps": (lambda r: r["steps"], ",.0f"),
}
