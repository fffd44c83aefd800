"""What can go wrong, with the status that says it over HTTP; any other `TriptychError` is a 422."""

from __future__ import annotations

from typing import ClassVar

from triptych.errors import TriptychError


class Problem(TriptychError):
    """An error with a status of its own."""

    status: ClassVar[int] = 422


class Gone(Problem):
    """An id that is unknown here, or was forgotten."""

    status = 404


class Busy(Problem):
    """More work waits than may wait."""

    status = 503


class Left(Problem):
    """The visitor went away before the work was begun."""

    status = 499
