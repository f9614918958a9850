"""Paths as the log and the metrics name them, and which of them are for everybody.

A path is the client's choice: as a label each new one would cost memory for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PROBES = frozenset({"/livez", "/readyz", "/healthz"})
METRICS = "/metrics"
# What the page is made of, so that it can ask for a key; and the description of the API.
STATIC = frozenset({"/", "/docs", "/docs.json", "/schema.json", "/page", "/static_content"})
OTHER = "other"
_FOLDERS = ("/page", "/static_content")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True)
class Routes:
    """All paths that the service knows."""

    known: frozenset[str]

    @classmethod
    def of(cls, paths: Iterable[str]) -> Routes:
        """The given paths, and those that every service of BentoML has."""
        return cls(frozenset(paths) | PROBES | STATIC | {METRICS})

    def name(self, path: str) -> str:
        """A path by the name of its route."""
        for folder in _FOLDERS:
            if path.startswith(f"{folder}/"):
                return folder
        return path if path in self.known else OTHER


def method_name(method: str) -> str:
    return method if method in _METHODS else OTHER
