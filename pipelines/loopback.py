"""Servers that a command starts for itself on this machine: port, client and end."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import requests


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def session() -> requests.Session:
    """A client that goes through no proxy, which is for the outside world."""
    import requests

    made = requests.Session()
    made.trust_env = False
    return made


def stop(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """End the server and all that it started: asked first, then killed."""
    try:
        server = psutil.Process(process.pid)
        family = [server, *server.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.terminate()
    _, left = psutil.wait_procs(family, timeout=patience_s)
    for member in left:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
