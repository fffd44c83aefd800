"""`triptych studio`: the page, and the same verbs over HTTP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from triptych.cli import parse
from triptych.cli.options import Studio
from triptych.cli.sources import notice


def studio(words: Sequence[str]) -> None:
    """Serves models until it is stopped."""
    options = parse(Studio, words, "triptych studio")
    token = options.token if options.token is not None else os.environ.get("TRIPTYCH_TOKEN") or None
    from triptych.modes import flush_subnormals
    from triptych.studio.serving import Address, serve

    flush_subnormals()

    serve(options.runs or usual_sources(), Address(options.host, options.port, options.allow_host, token), notice)


def usual_sources() -> list[str]:
    """The runs that lie here, and the models on board."""
    from triptych import onboard

    here = "runs" if Path("runs").is_dir() else "."
    return [here, *(str(onboard.folder_of(name)) for name in onboard.names())]
