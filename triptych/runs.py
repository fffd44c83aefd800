"""Where runs lie: the folders below one that hold a run, or what is left of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from triptych.folders import original, recover

DEPTH = 4
"""Folders below the one that is named."""


def runs_below(root: Path) -> Iterator[Path]:
    """Folders that hold a run, or what is left of one, sorted; none is looked for inside a run."""
    for at, folders, files in os.walk(root):
        depth = len(Path(at).relative_to(root).parts)
        folders[:] = _walked(Path(at), folders) if depth < DEPTH else []
        # a recipe alone does not make a run of ours, nor do weights: folders of other tools hold such files too
        ours = "recipe.json" in files or ("metrics.jsonl" in files and "state" in folders)
        if ours:
            folders.clear()
            yield Path(at)


def _walked(at: Path, names: Sequence[str]) -> Sequence[str]:
    """The folders to look into, sorted; a run whose replacement was left half done is put back."""
    lost = {place.name for name in names if (place := original(at / name)) and place.name not in names}
    back = {recover(at / name).name for name in lost}
    return sorted(back | {name for name in names if not name.startswith(".")})
