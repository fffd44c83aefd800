"""What the routes share: the models, and what visitors have put on the shelves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from torch import Tensor

from triptych import edit
from triptych.edit.choosing import Which
from triptych.studio import images
from triptych.studio.photographs import Photograph, Taken, pasted, take
from triptych.studio.problems import Busy, Problem
from triptych.studio.registry import Registry
from triptych.studio.served import Served
from triptych.studio.shelf import Shelf
from triptych.studio.teaching import Taught
from triptych.studio.verbs import Mover, Picture

T = TypeVar("T")
_TAUGHT = 2**25  # bytes of all taught directions
_DECODED = 2  # pictures at a time: each may take some hundred megabytes while it is decoded
_WAITING = 64  # that may wait for that


class Studio:
    """The state of a running studio.

    Attributes:
        pictures, photographs, taught: what visitors have, under ids that only they know.
    """

    def __init__(self, registry: Registry):
        self.registry, self.limits = registry, registry.limits
        self.pictures = Shelf[Picture]("picture", most=self.limits.pictures, expiry=self.limits.expiry)
        self.photographs = Shelf[Photograph]("photograph", most=self.limits.photographs, expiry=self.limits.expiry)
        self.taught = Shelf[Taught]("taught direction", most=_TAUGHT, expiry=self.limits.expiry)
        self._movers: dict[str, tuple[Served, Mover]] = {}
        self._decoders: CapacityLimiter | None = None

    def purge(self) -> None:
        """Forgets what has expired."""
        self.pictures.purge()
        self.photographs.purge()
        self.taught.purge()

    def keep(self, picture: Picture) -> str:
        """The picture's id from now on."""
        return self.pictures.put(picture, picture.size)

    def opened(self, key: str) -> tuple[Served, Picture]:
        """A picture by its id, and its model as it is now."""
        picture = self._fetched(key)
        return self.registry.model(picture.model), picture

    def opened_for(self, served: Served, keys: Sequence[str]) -> list[Picture]:
        """Pictures by their ids, all of one model."""
        found = [self._fetched(key) for key in keys]
        if any(picture.model != served.id for picture in found):
            raise Problem(f"these pictures were opened for several models: open all of them for {served.id}")
        return found

    def _fetched(self, key: str) -> Picture:
        """A picture, whose photograph counts as used with it, so that the edit can be pasted back in the end."""
        picture = self.pictures.get(key)
        if picture.photograph:
            self.photographs.touch(picture.photograph)
        return picture

    def mover(self, served: Served) -> Mover:
        """What edits a model's pictures: one for each, so that work for it is alike."""
        if self._movers.get(served.id, (None,))[0] is not served:
            self._movers[served.id] = (served, Mover(served))
        return self._movers[served.id][1]

    def directions(self, served: Served, taught: Sequence[str]) -> edit.Directions:
        """The model's own directions, with taught ones by their ids."""
        if not taught:
            return served.directions
        known = edit.Directions(served.directions)
        for key in taught:
            found = self.taught.get(key)
            if (found.model, found.weights) != (served.id, served.weights):
                raise Problem(f"the direction {found.direction.name} was taught to other weights: teach it again")
            known[found.direction.name] = found.direction
        return known

    async def decoded(self, content: bytes, served: Served) -> Tensor:
        """An uploaded file as the model takes it."""
        return await self._in_turn(images.read, content, served.event_shape, self.limits.pixels)

    async def taken(self, source: bytes | Photograph, served: Served, which: Which) -> Taken:
        """A face of a photograph, or its centre."""
        return await self._in_turn(take, source, served, which, self.limits.pixels)

    async def pasted(self, picture: Picture, after: Tensor) -> bytes:
        """The photograph that a picture was taken from with its edit, as PNG."""
        if picture.chosen is None or picture.again is None:
            raise Problem("this picture was not taken from a photograph: open a file with the field face")
        photograph = self.photographs.get(picture.photograph)
        return await self._in_turn(pasted, photograph, picture.chosen, picture.again, after, self.limits.pixels)

    async def _in_turn(self, work: Callable[..., T], *asked: Any) -> T:
        """Work on whole photographs in a thread, of which a bounded number is done at a time, and may wait."""
        if self._decoders is None:
            self._decoders = CapacityLimiter(_DECODED)
        if self._decoders.statistics().tasks_waiting >= _WAITING:
            raise Busy(f"{_WAITING} pictures are waiting to be read: try again in a second")
        return await anyio.to_thread.run_sync(work, *asked, limiter=self._decoders)

    async def refresh(self) -> None:
        """Looks for new runs, outside of the event loop."""
        await asyncio.to_thread(self.registry.refresh)
