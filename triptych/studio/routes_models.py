"""GET models, directions, health."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from triptych.edit import Direction
from triptych.studio import schemas
from triptych.studio.limits import NAME
from triptych.studio.served import Served
from triptych.studio.state import Studio

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Detail, "description": said}
    for status, said in {
        400: "not a request that can be read",
        401: "the token is missing",
        403: "from another page",
        404: "unknown here, or forgotten",
        413: "too large",
        422: "what is asked for cannot be done, with the reason",
        503: "too much waits: Retry-After says when to ask again",
    }.items()
}


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["models"], responses=ERRORS)

    @routes.get("/health")
    async def health() -> schemas.Health:
        """Whether the studio answers."""
        served = studio.registry.served
        return schemas.Health(status="ok", models=len(served), waiting=sum(len(one.worker) for one in served))

    @routes.get("/models")
    async def models() -> schemas.Models:
        """Every model with its directions; a run whose model did not load says why in `problem`."""
        await studio.refresh()
        broken = [
            schemas.Model(id=one.id, family=None, event_shape=None, directions=[], problem=one.problem)
            for one in studio.registry.broken
        ]
        return schemas.Models(models=[*map(_model, studio.registry.served), *broken])

    @routes.get("/directions")
    async def directions(model: str) -> schemas.Directions:
        """A model's directions with what they measured on held-out data."""
        served = studio.registry.model(model[:NAME])
        judged = [
            schemas.Judged(**described(d).model_dump(), depth=d.depth, judged=d.judged) for d in served.directions.values()
        ]
        return schemas.Directions(model=served.id, directions=judged)

    return routes


def _model(served: Served) -> schemas.Model:
    conditions = served.model.conditions
    return schemas.Model(
        id=served.id,
        family=served.family,
        event_shape=list(served.event_shape),
        directions=[described(d) for d in served.directions.values()],
        bound=served.bound,
        given=[] if conditions is None else list(conditions.names),
        faces=served.alignment is not None,
        note=served.note,
    )


def described(direction: Direction) -> schemas.Direction:
    """What a slider needs of a direction."""
    worthless, safe = (direction.judged.get(key) for key in ("worthless", "safe"))
    return schemas.Direction(
        name=direction.name, range=direction.range, safe=safe, swept="safe" in direction.judged, kind=direction.kind,
        worthless=worthless,
    )  # fmt: skip
