"""The application: routes, errors as one sentence, the page, and what is kept while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from triptych.errors import TriptychError
from triptych.studio import routes_editing, routes_models, routes_pictures, routes_training
from triptych.studio.problems import Problem
from triptych.studio.registry import Registry
from triptych.studio.security import LOOPBACK, Guard
from triptych.studio.state import Studio
from triptych.version import __version__

STATIC = Path(__file__).parent / "static"
_PAGES = {"/": "index.html", "/docs": "docs.html"}
_log = logging.getLogger("triptych.studio")


def create_app(registry: Registry, *, token: str | None = None, hosts: Collection[str] = LOOPBACK) -> ASGIApp:
    """The studio as an ASGI application.

    Args:
        registry: of the models.
        token: what requests to /api have to bear (Authorization: Bearer); None: nothing.
        hosts: what a Host header may name, of `security.hosts_of`.

    >>> app = create_app(Registry(["runs/faces"]))  # doctest: +SKIP
    """
    studio = Studio(registry)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_forget(studio))
        yield
        task.cancel()
        registry.close()

    app = FastAPI(
        title="triptych studio",
        version=__version__,
        description="Edit, mix, draw and score pictures by the models of some runs. Errors are {detail: one sentence}.",
        docs_url=None,  # its pages come from elsewhere; ours is /docs
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
    )
    for room in (routes_models, routes_pictures, routes_editing, routes_training):
        app.include_router(room.router(studio), prefix="/api")
    for path, name in _PAGES.items():
        app.add_api_route(path, _page(name), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
    _explain(app)
    return Guard(app, hosts, token, registry.limits)


def _page(name: str) -> Any:
    async def page() -> FileResponse:
        return FileResponse(STATIC / name)

    return page


async def _forget(studio: Studio) -> None:
    """Pictures expire also where nobody asks."""
    while True:
        await asyncio.sleep(min(60.0, studio.limits.expiry))
        studio.purge()


def _explain(app: FastAPI) -> None:
    """Every error as {"detail": one sentence}."""

    @app.exception_handler(TriptychError)
    async def known(_: Request, error: TriptychError) -> JSONResponse:
        status = error.status if isinstance(error, Problem) else Problem.status
        return _said(status, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _said(422, _sentence(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return _said(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(MemoryError)
    async def memory(_: Request, __: Exception) -> JSONResponse:
        return _said(503, "there is not enough memory for this at the moment: try again later")

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=error)
        return _said(500, "something went wrong in the studio: its terminal says what")


def _said(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    extra = {"Retry-After": "1"} if status == 503 else {}
    plain = " ".join(sentence.encode("utf-8", "replace").decode("utf-8").split())
    return JSONResponse({"detail": plain}, status, {**extra, **(headers or {})})


def _sentence(error: RequestValidationError) -> str:
    """The first thing that is wrong with a request, without what was sent."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")[:120]
    said = str(first["msg"]).rstrip(".")
    return f"{place}: {said[:1].lower()}{said[1:]}" if place else said
