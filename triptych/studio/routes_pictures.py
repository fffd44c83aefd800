"""POST encode, random, sample, teach, score: pictures come in, or are made."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Request
from torch import Tensor

from triptych.data import faces
from triptych.edit.choosing import Which, parse_which
from triptych.studio import images, photographs, schemas, scoring, teaching, verbs
from triptych.studio.problems import Problem
from triptych.studio.routes_models import ERRORS, described
from triptych.studio.served import Served
from triptych.studio.state import Studio
from triptych.studio.uploads import Form, form_docs, read_form
from triptych.studio.verbs import Picture
from triptych.studio.worker import answer

_PICTURE = "instead of file: the id of a picture that is open already"
_FACE = "auto (the largest face, or the centre where none is found), centre, largest, or a face's number from 1"


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["pictures"], responses=ERRORS)
    _one(routes, studio)
    _several(routes, studio)
    return routes


def _one(routes: APIRouter, studio: Studio) -> None:
    """Those that open pictures."""
    upload = form_docs(studio.limits, "file", model="a model's id", picture=_PICTURE, face=_FACE)

    @routes.post("/encode", openapi_extra=upload)
    async def encode(request: Request) -> schemas.Encoded:
        """Opens a picture for a model, upright, resized and cropped, or a face in it, aligned as the model's training data
        are; says its reconstruction and its coordinates."""
        form = await read_form(request)
        served = studio.registry.model(form.text("model"))
        return await opened(studio, request, served, await _chosen(studio, form, served), form.texts.get("source", "file"))

    @routes.post("/random")
    async def random(request: Request, asked: schemas.Random) -> schemas.Encoded:
        """Opens a picture for those who have none at hand."""
        served = studio.registry.model(asked.model)
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed % 2**31
        stored = _face(served, seed)
        if stored is not None:
            return await opened(studio, request, served, Picture(served.id, stored), "drawn face")
        (stored,) = await answer(request, served.worker.submit(_each(lambda s: verbs.drawn(served, 1, 0.7, s, None)), seed))
        return await opened(studio, request, served, Picture(served.id, stored), "sample")

    @routes.post("/sample")
    async def sample(request: Request, asked: schemas.Sample) -> schemas.Samples:
        """Draws new examples, which can be edited like any picture."""
        served = studio.registry.model(asked.model)
        context = _given(served, asked.given)
        draw = partial(verbs.drawn, served, asked.n, asked.temperature, context=context)
        found = await answer(request, served.worker.submit(_each(draw), asked.seed))
        kept = [Picture(served.id, stored, context) for stored in found]
        return schemas.Samples(
            pictures=[schemas.Sampled(picture=studio.keep(one), image=images.data_url(one.stored)) for one in kept]
        )


def _several(routes: APIRouter, studio: Studio) -> None:
    """Those that learn from, or judge, many."""
    several = form_docs(studio.limits, "files", model="a model's id")

    @routes.post("/teach")
    async def teach(request: Request, asked: schemas.Teach) -> schemas.Taught:
        """Learns a direction from two piles of opened pictures, and judges it by pictures that it has not seen."""
        served = studio.registry.model(asked.model)
        shown, lacking = (studio.opened_for(served, keys) for keys in (asked.shown, asked.lacking))
        piles = teaching.Piles(asked.name.strip(), shown, lacking)
        found = await answer(request, served.worker.submit(_each(partial(teaching.teach, served)), piles))
        key = studio.taught.put(found, 8 * found.direction.normal.numel() + 4096)
        drags = dict(sorted(found.drags.items(), key=lambda pair: -abs(pair[1])))
        return schemas.Taught(
            taught=key, direction=described(found.direction), n=found.n, accuracy=found.accuracy, stderr=found.stderr,
            majority=found.majority, drags=drags,
        )  # fmt: skip

    @routes.post("/score", openapi_extra=several)
    async def score(request: Request) -> schemas.Scores:
        """Scores up to 64 files by how unlike the training data they are, the least likely first."""
        form = await read_form(request)
        served = studio.registry.model(form.text("model"))
        names, stored, refused = await _decoded(studio, form, served)
        if not stored:
            raise Problem(next(iter(refused.values()), "expected at least one picture file in the field files"))
        found = await answer(request, served.worker.submit(_each(partial(scoring.score, served)), torch.cat(stored)))
        rows = [
            schemas.Score(name=names[row.number], image=images.data_url(stored[row.number]), score=row.score, p=row.p,
                          bits_per_dim=row.bits_per_dim, reconstruction=row.reconstruction)
            for row in found.rows
        ]  # fmt: skip
        return schemas.Scores(by=found.by, scores=rows, refused=refused)


def _each(work: Any) -> Any:
    """Work that is never done for two at once, as the worker takes it."""
    return lambda payloads: [work(payload) for payload in payloads]


async def opened(studio: Studio, request: Request, served: Served, picture: Picture, source: str) -> schemas.Encoded:
    """A picture encoded by itself, kept, and described."""

    def work(one: Picture) -> dict[str, float]:
        return verbs.coordinates(served, one, served.directions)

    found = await answer(request, served.worker.submit(_each(work), picture))
    assert picture.again is not None
    photograph = studio.photographs.get(picture.photograph) if picture.photograph else None
    return schemas.Encoded(
        picture=studio.keep(picture),
        model=served.id,
        projections=found,
        image=images.data_url(picture.stored),
        reconstruction=images.data_url(picture.again),
        rms=verbs.rms(picture),
        photograph=None
        if photograph is None or picture.chosen is None
        else photographs.described(photograph, picture.chosen),
        source=source if source in ("file", "sample", "drawn face") else "file",
    )


async def _chosen(studio: Studio, form: Form, served: Served) -> Picture:
    """The picture that a form sends, or names."""
    which = parse_which(form.text("face")) if "face" in form.texts else None
    if form.files and which is not None:
        return await _taken(studio, served, form.files[0][1], which)
    if form.files:
        return Picture(served.id, await studio.decoded(form.files[0][1], served))
    if "picture" not in form.texts:
        raise Problem("expected a picture file in the field file, or the id of an open one in the field picture")
    known = studio.pictures.get(form.text("picture"))
    if known.chosen is not None:
        return await _taken(studio, served, known.photograph, known.chosen.number or "centre" if which is None else which)
    if which not in (None, "auto", "centre"):
        raise Problem("this picture was not taken from a photograph: send the file to choose a face of it")
    if known.model == served.id:
        return Picture(served.id, known.stored, known.context)
    content = images.png(known.stored)
    return Picture(served.id, await studio.decoded(content, served))


async def _taken(studio: Studio, served: Served, source: bytes | str, which: Which) -> Picture:
    """A face of a photograph, sent or by its id, or its centre."""
    known = studio.photographs.get(source) if isinstance(source, str) else source
    found = await studio.taken(known, served, which)
    kept = isinstance(source, str) and found.photograph is known
    key = source if kept else studio.photographs.put(found.photograph, found.photograph.size)
    return Picture(served.id, found.stored, photograph=str(key), chosen=found.chosen)


async def _decoded(studio: Studio, form: Form, served: Served) -> tuple[list[str], list[Tensor], dict[str, str]]:
    """Names and pictures of all files that can be read, and why others cannot."""
    names, stored, refused = [], [], {}
    for name, content in form.files:
        try:
            stored.append(await studio.decoded(content, served))
            names.append(name)
        except Problem as problem:
            refused[name] = str(problem)
    return names, stored, refused


def _given(served: Served, given: str | None) -> Tensor | None:
    if not given:
        return None
    if served.model.conditions is None:
        raise Problem(f"the model {served.id} was trained without conditions: leave out given")
    found: Tensor = served.model.conditions.parse(given)
    return found


def _face(served: Served, seed: int) -> Tensor | None:
    """A drawn face in the model's size; None for a model that was trained on anything else."""
    channels, height, width = served.event_shape
    if served.data.partition("?")[0] != "faces" or channels != 3 or height != width or not 16 <= height <= 256:
        return None
    return faces.draw(faces.attributes(np.array([seed])), height)
