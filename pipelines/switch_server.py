"""The switch as a running server: clients at one address, those who run it at another."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from ecgbeats.errors import ConfigError
from pipelines.switch import Switch, say

_ENDS_IN_S = 60
_BACKLOG = 1024


def serve(switch: Switch, clients: tuple[str, int], admin: tuple[str, int]) -> None:
    """Serve until told to end by SIGINT or SIGTERM; what is under way is answered first.

    Raises
    ------
    ConfigError
        An address cannot be listened at.
    """
    sockets = [_listen(address) for address in (clients, admin)]
    for name, bound in zip(("clients", "admin"), sockets, strict=True):
        host, port = bound.getsockname()[:2]
        say({"event": "listening", "for": name, "url": f"http://{host}:{port}"})
    say({"event": "plan", **switch.plan.model_dump()})
    asyncio.run(_both(switch, sockets))


async def _both(switch: Switch, sockets: list[socket.socket]) -> None:
    outside, inside = (
        uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Of the client's own address, and nothing that it says of itself.
                proxy_headers=False,
                timeout_graceful_shutdown=_ENDS_IN_S,
            )
        )
        for app in (switch.app, switch.admin)
    )
    beside = asyncio.create_task(inside._serve([sockets[1]]))
    await outside.serve([sockets[0]])
    inside.should_exit = True
    await beside


def _listen(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(address, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"{address[0]}:{address[1]}: cannot be listened at; {error}") from error
