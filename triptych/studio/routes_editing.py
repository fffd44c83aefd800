"""POST edit, paste, sweep, mix, likelihood, recipe: what is done with opened pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from torch import Tensor

from triptych.edit import Directions
from triptych.edit.recipe import EditRecipe
from triptych.studio import images, schemas, verbs
from triptych.studio.problems import Problem
from triptych.studio.routes_models import ERRORS
from triptych.studio.served import Served
from triptych.studio.state import Studio
from triptych.studio.verbs import Move
from triptych.studio.worker import answer

_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "the picture"}}
_GIF: dict[int | str, dict[str, Any]] = {200: {"content": {"image/gif": {}, "image/png": {}}, "description": "the sweep"}}


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["editing"], responses=ERRORS)
    _drawn(routes, studio)
    _told(routes, studio)
    return routes


def _drawn(routes: APIRouter, studio: Studio) -> None:
    """Those that answer with a picture."""

    @routes.post("/edit", response_class=Response, responses=_PNG)
    async def edit(request: Request, asked: schemas.Edit) -> Response:
        """The picture with coordinates set; without any, its reconstruction."""
        start = time.perf_counter()
        served, move = _move(studio, asked)
        edited = await answer(request, served.worker.submit(studio.mover(served), move, alone=asked.alone))
        took = {"Server-Timing": f"model;dur={1000 * (time.perf_counter() - start):.1f}"}
        return Response(images.png(edited), media_type="image/png", headers=took)

    @routes.post("/paste", response_class=Response, responses=_PNG)
    async def paste(request: Request, asked: schemas.Edit) -> Response:
        """The whole photograph that the picture was taken from, with the edit in it."""
        served, move = _move(studio, asked)
        edited = await answer(request, served.worker.submit(studio.mover(served), move, alone=asked.alone))
        return Response(await studio.pasted(move.picture, edited), media_type="image/png")

    @routes.post("/sweep", response_class=Response, responses=_GIF)
    async def sweep(request: Request, asked: schemas.Sweep) -> Response:
        """One coordinate from low to high, as a GIF that plays forwards and backwards, or a PNG strip."""
        served, move = _move(studio, asked)
        move.directions[asked.name]
        steps = np.linspace(asked.low, asked.high, asked.count).tolist()
        moves = [Move(move.picture, {**move.values, asked.name: v}, move.hold, move.directions) for v in steps]
        frames = await answer(request, served.worker.submit(partial(_all, studio.mover(served)), moves))
        gif = asked.format == "gif"
        content = images.film(frames) if gif else images.strip(frames)
        return Response(content, media_type="image/gif" if gif else "image/png")

    @routes.post("/mix", response_class=Response, responses=_PNG)
    async def mix(request: Request, asked: schemas.Mix) -> Response:
        """The picture whose code is the weighted mean of the others' codes."""
        if len(asked.pictures) != len(asked.weights) or not sum(asked.weights) > 0:
            raise Problem("expected a weight for each picture, at least one of them above 0")
        served, _ = studio.opened(asked.pictures[0])
        pictures = studio.opened_for(served, asked.pictures)
        work = partial(_mixed, served)
        mixed = await answer(request, served.worker.submit(work, (pictures, asked.weights)))
        return Response(images.png(mixed), media_type="image/png")


def _told(routes: APIRouter, studio: Studio) -> None:
    """Those that answer with numbers."""

    @routes.post("/project")
    async def project(request: Request, asked: schemas.Project) -> schemas.Projections:
        """Where an opened picture lies along every direction, taught ones among them."""
        served, picture = studio.opened(asked.picture)
        work = partial(_read, served, studio.directions(served, asked.taught))
        return schemas.Projections(projections=await answer(request, served.worker.submit(work, picture)))

    @routes.post("/likelihood")
    async def likelihood(request: Request, asked: schemas.Edit) -> schemas.Likelihoods:
        """Bits per dimension, or nats, of the picture as it was read and after the edit."""
        served, move = _move(studio, asked)
        if served.bound is None:
            return schemas.Likelihoods(before=None, after=None, unit=None, bound=None)
        before, after = await answer(request, served.worker.submit(partial(_measured, served, studio.mover(served)), move))
        return schemas.Likelihoods(before=before.value, after=after.value, unit=before.unit, bound=served.bound)

    @routes.post("/recipe")
    async def recipe(asked: schemas.Edit) -> dict[str, Any]:
        """The edit as a file that `triptych edit RUN PICTURE --recipe FILE` replays."""
        served, move = _move(studio, asked)
        own = served.directions
        added = {name: move.directions[name] for name in (*move.values, *move.hold) if name not in own}
        return EditRecipe.of(served.weights, move.values, move.hold, move.directions, added).to_json()


def _move(studio: Studio, asked: schemas.Edit) -> tuple[Served, Move]:
    """The edit that is asked for, everything in it known."""
    served, picture = studio.opened(asked.picture)
    directions = studio.directions(served, asked.taught)
    for name in (*asked.set, *asked.hold):
        directions[name]
    if twice := set(asked.set) & set(asked.hold):
        raise Problem(f"{', '.join(sorted(twice))} is both set and held: do one")
    if asked.hold and len({directions[name].depth for name in (*asked.set, *asked.hold)}) > 1:
        raise Problem("held directions and those that are set move codes of several depths: hold those of one")
    return served, Move(picture, dict(asked.set), tuple(asked.hold), directions)


def _all(mover: verbs.Mover, asked: list[list[Move]]) -> list[list[Tensor]]:
    return [mover(moves) for moves in asked]


def _read(served: Served, directions: Directions, asked: list[verbs.Picture]) -> list[dict[str, float]]:
    return [verbs.coordinates(served, picture, directions) for picture in asked]


def _measured(served: Served, mover: verbs.Mover, asked: list[Move]) -> list[tuple[verbs.Likelihood, verbs.Likelihood]]:
    found = []
    for move in asked:
        both = (move.picture.stored, mover([move])[0])
        before, after = (verbs.likelihood(served, stored, move.picture.context) for stored in both)
        assert before is not None and after is not None
        found.append((before, after))
    return found


def _mixed(served: Served, asked: list[tuple[Sequence[verbs.Picture], Sequence[float]]]) -> list[Tensor]:
    return [verbs.mixed(served, pictures, weights) for pictures, weights in asked]
