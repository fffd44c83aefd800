"""Figures that were measured before, by benchmarks that take longer than a tour: each with its command and machine."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from triptych import storage
from triptych.report import Number


@cache
def _all() -> dict[str, Any]:
    with resources.as_file(resources.files("triptych.tour") / "recorded.json") as path:
        return storage.read_json(path)


def recorded(name: str) -> Number:
    """A figure by its name.

    >>> str(recorded("mnist elbo flow")), recorded("mnist elbo flow").recorded
    ('−88.69 nats', True)
    """
    said = _all()["figures"][name]
    return Number(said["value"], said.get("stderr"), said.get("n"), said.get("unit", ""), recorded=True)


def source(name: str) -> str:
    """How a figure was measured, in words with markup.

    >>> source("game jsd")
    '`python benchmarks/game.py --threads 1` (one core of an AMD EPYC)'
    """
    said = _all()["sources"][_all()["figures"][name]["source"]]
    return f"`{said['command']}` ({said['machine']})"


def names() -> list[str]:
    """Of all figures."""
    return list(_all()["figures"])
