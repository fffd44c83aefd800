"""What commands write for programs, and what they read of a run without loading it. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STDOUT = Path("-")
"""Where --json writes without a file's name."""


def json_words(words: Sequence[str]) -> list[str]:
    """The words, in which a --json that no file's name follows stands for standard output.

    >>> json_words(["runs", "--json"]), json_words(["--json", "a.json"])
    (['runs', '--json=-'], ['--json', 'a.json'])
    """
    found = []
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else "--"
        alone = word == "--json" and following != "-" and (following.startswith("-") or Path(following).is_dir())
        found.append("--json=-" if alone else word)
    return found


def write_result(path: Path, value: Any) -> None:
    """JSON, to a file or to standard output; numbers that are not finite become null."""
    if path == STDOUT:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        print(json.dumps(finite, indent=2))
        return
    from triptych import storage

    storage.write_json(path, value)


def newest_step(run: Path) -> int | None:
    """The step of a run's newest checkpoint; None for a run without any."""
    try:
        steps = [int(path.name) for path in (run / "state").iterdir() if path.name.isdecimal()]
    except OSError:
        return None
    return max(steps, default=None)
