"""The studio as a server: it listens, says where, and answers until it is stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from triptych.errors import TriptychError, check_size
from triptych.studio.app import create_app
from triptych.studio.limits import Limits
from triptych.studio.registry import Registry
from triptych.studio.security import hosts_of, is_loopback


@dataclass(frozen=True)
class Address:
    """Where the studio listens, and for whom.

    Attributes:
        names: further names that a Host header may have, such as that of a proxy.
        token: what requests have to bear; needed wherever others than this machine can reach it.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    names: Collection[str] = ()
    token: str | None = None

    def check(self) -> None:
        """Raises a `TriptychError` for a port that is not one, an empty token, and a missing one."""
        check_size("--port", self.port, 65_535, least=0)
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise TriptychError("--token should be printable ASCII characters, at least one of them not a space")
        if self.token is None and not is_loopback(self.host):
            raise TriptychError(f"--host {self.host} lets other machines in: give --token (or set TRIPTYCH_TOKEN) too")


def listening(address: Address) -> socket.socket:
    """A socket that listens there.

    Raises:
        TriptychError: for a port in use, and a host that is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        bound = socket.create_server((address.host, address.port), family=family, backlog=256)
        # answers go out at once, though a head and a body are two writes; accepted connections inherit it
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return bound
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        advice = "choose another --port, or 0 for any that is free"
        raise TriptychError(f"cannot listen on {address.host}, port {address.port} ({why.lower()}): {advice}") from error


def serve(sources: Sequence[str], address: Address, notice: Callable[[str], object], limits: Limits | None = None) -> None:
    """Serves the models of some runs until it is stopped.

    Args:
        notice: called with lines for a person: each model, and where the page is.
    """
    import uvicorn

    address.check()
    with listening(address) as bound:
        registry = Registry(sources, limits)
        if not registry.folders:
            raise TriptychError(f"no runs in {', '.join(sources)}: triptych train … --out runs/NAME makes one")
        for line in _models(registry):
            notice(line)
        app = create_app(registry, token=address.token, hosts=hosts_of(address.host, address.names))
        host = f"[{address.host}]" if ":" in address.host else address.host
        notice(f"studio: http://{host}:{bound.getsockname()[1]}/ (Ctrl-C stops it)")
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, date_header=False,
                                timeout_keep_alive=10, timeout_graceful_shutdown=3, ws="none")  # fmt: skip
        uvicorn.Server(config).run(sockets=[bound])


def _models(registry: Registry) -> list[str]:
    found = []
    for served in registry.served:
        sliders = f"{len(served.directions)} directions" if served.directions else "no directions"
        shape = "×".join(map(str, served.event_shape))
        found.append(f"{served.id}: {served.family}, {shape}, {sliders}" + (f" ({served.note})" if served.note else ""))
    return found + [f"{broken.id}: left out, {broken.problem}" for broken in registry.broken]
