"""The switch as a running server: clients at one address, those who run it at another."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from ecgbeats.errors import ConfigError
from pipelines.switch import ANSWER_S, Switch, say
from pipelines.switch_requests import Limits

# What is under way when it is told to end: a body that is still coming, and then its answer.
ENDS_IN_S = round(Limits().body_s + ANSWER_S)
_BACKLOG = 1024
# Connections, and requests at work, from which on uvicorn answers 503 by itself.
_CONNECTIONS = 1024


def serve(
    switch: Switch,
    clients: tuple[str, int],
    admin: tuple[str, int],
    *,
    trusted_proxies: str | None = None,
) -> None:
    """Serve until told to end by SIGINT or SIGTERM; what is under way is answered first.

    Parameters
    ----------
    trusted_proxies : str, optional
        Addresses and networks between commas, whose X-Forwarded-For names the client.

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
    asyncio.run(_both(switch, sockets, trusted_proxies))


async def _both(switch: Switch, sockets: list[socket.socket], proxies: str | None) -> None:
    outside, inside = (
        uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Else the client is whoever connects, and nothing that it says of itself.
                proxy_headers=proxies is not None,
                forwarded_allow_ips=proxies,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=ENDS_IN_S,
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
