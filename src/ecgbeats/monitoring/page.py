"""The page on a monitoring: one HTML file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from ecgbeats.monitoring.drift import Compared
from ecgbeats.monitoring.expectations import TITLES
from ecgbeats.monitoring.plots import answers, distributions, overview
from ecgbeats.monitoring.reference import Reference

_TEMPLATE = "monitoring.html.j2"
_STATISTICS = {
    "psi": "stability index",
    "ks": "Kolmogorov–Smirnov",
    "wasserstein": "Wasserstein",
    "share": "share",
}


def render(verdict: Mapping[str, Any], compared: Sequence[Compared], reference: Reference) -> str:
    """A self-contained HTML page on drift.json and what it was found in."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    source = resources.files("ecgbeats").joinpath("templates", _TEMPLATE)
    pictures = {"answers": answers(compared, reference)} if compared else {}
    if compared:
        pictures["distributions"] = distributions(compared, reference)
    if any(each.distances for each in compared):
        pictures["overview"] = overview(compared)
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        v=verdict,
        titles=TITLES,
        statistics=_STATISTICS,
        pictures={
            name: f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
            for name, png in pictures.items()
        },
    )
