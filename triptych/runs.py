"""Where runs lie: the folders below one that hold a run, or what is left of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

DEPTH = 4
"""Folders below the one that is named."""


def runs_below(root: Path) -> Iterator[Path]:
    """Folders that hold a run, or what is left of one, sorted; none is looked for inside a run."""
    for at, folders, files in os.walk(root):
        depth = len(Path(at).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEPTH else []
        # a recipe alone does not make a run of ours, nor do weights: folders of other tools hold such files too
        ours = "recipe.json" in files or ("metrics.jsonl" in files and "state" in folders)
        if ours:
            folders.clear()
            yield Path(at)
