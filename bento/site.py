"""What is read from the service: the page, the model's card, examples of each class.

A FastAPI application, for BentoML takes its routes into the OpenAPI description.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from bento.answers import Card
from bento.metrics import answer
from ecgbeats.files import read_json
from ecgbeats.imaging.png import encode_png
from ecgbeats.imaging.spec import spec_from_json
from ecgbeats.records import BEAT_SYMBOLS, in_order
from ecgbeats.wfdb_bytes import read_annotation_bytes, read_header, read_record

_HERE = Path(__file__).parent
PAGE = _HERE / "page"
SAMPLES = PAGE / "samples"
BUNDLE: dict[str, Any] = read_json(_HERE / "bundle.json")
_CARDS = [entry["card"] for entry in BUNDLE["models"]]
CARD_OF_MODEL = Card.model_validate({**_CARDS[0], "beside": _CARDS[1:]})

# Of each class: how many examples, and the time around R that they show.
_EXAMPLES, _BEFORE_S, _AFTER_S, _TRACE_HZ = 3, 0.9, 0.9, 180.0


class Example(BaseModel):
    """A beat of the supplied synthetic recordings, as this model's images have it."""

    record: str = Field(examples=["s002"])
    time_s: float = Field(examples=[12.4])
    png: str = Field(description="The image, base64.", examples=["iVBORw0KGgo="])
    trace_mv: list[float] = Field(
        description="The drawn lead around R, 0.9 s before to 0.9 s after, at 180 Hz.",
        examples=[[0.01, 0.02]],
    )


class Known(BaseModel):
    """A class of the model, in words, with examples."""

    name: str = Field(examples=["V"])
    title: str = Field(examples=["Ventricular ectopic beat"])
    about: str = Field(examples=["A beat that starts in a ventricle."])
    symbols: str = Field(description="WFDB annotation symbols.", examples=["VE"])
    examples: list[Example]


site = FastAPI(title="BeatClassifier", docs_url=None, redoc_url=None, openapi_url=None)
site.mount("/page", StaticFiles(directory=PAGE), name="page")


@site.get("/model", response_model=Card, tags=["Service APIs"], operation_id="model")
def model() -> Card:
    """The model: name, version, classes, image spec, metrics, lineage."""
    return CARD_OF_MODEL


@site.get("/classes", response_model=list[Known], tags=["Service APIs"], operation_id="classes")
def classes() -> list[Known]:
    """Each class in words, with synthetic example beats drawn as the model takes them."""
    return _known()


@site.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    return answer()


@site.get("/", include_in_schema=False)
def index() -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html")


@site.get("/docs", include_in_schema=False)
def docs() -> Response:
    return FileResponse(PAGE / "docs.html", media_type="text/html")


@lru_cache(maxsize=1)
def _known() -> list[Known]:
    words = read_json(PAGE / "classes.json")
    examples = _examples(CARD_OF_MODEL.labels or {})
    return [
        Known(
            name=name,
            title=words.get(name, {}).get("title", name),
            about=words.get(name, {}).get("about", ""),
            symbols=(CARD_OF_MODEL.labels or {}).get(name, ""),
            examples=examples.get(name, []),
        )
        for name in CARD_OF_MODEL.classes
    ]


def _examples(labels: dict[str, str]) -> dict[str, list[Example]]:
    from ecgbeats.beats import choose_lead, condition
    from ecgbeats.imaging.render import render

    spec = spec_from_json(CARD_OF_MODEL.image)
    class_of = {symbol: name for name, symbols in labels.items() for symbol in symbols}
    found: dict[str, list[Example]] = {name: [] for name in labels}
    for path in sorted(SAMPLES.glob("*.hea")):
        header = read_header(path.read_bytes())
        files = {name: (SAMPLES / name).read_bytes() for name in header.files}
        recording = read_record(header, files, max_values=1_000_000)
        beats, _ = in_order(
            read_annotation_bytes(path.with_suffix(".atr").read_bytes(), header.fs).only(
                BEAT_SYMBOLS | set(class_of)
            ),
            len(recording.signal),
        )
        wanted = []
        for name, examples in found.items():
            room = _EXAMPLES - len(examples)
            places = [k for k, s in enumerate(beats.symbol) if class_of.get(str(s)) == name]
            # One a record first of all, and none at the ends, where the trace is cut off.
            places = [k for k in places if 3 < k < len(beats.symbol) - 3]
            wanted += [(name, k) for k in places[:: max(1, len(places) // 2)][: min(room, 2)]]
        if not wanted:
            continue
        images = render(recording, beats.sample, spec)
        signal = condition(recording, choose_lead(recording, spec.lead), _TRACE_HZ)
        for name, k in wanted:
            time = float(beats.sample[k] / recording.fs)
            first = round((time - _BEFORE_S) * _TRACE_HZ)
            last = first + round((_BEFORE_S + _AFTER_S) * _TRACE_HZ)
            png = encode_png(images[k], spec.spec_id)
            found[name].append(
                Example(
                    record=path.stem,
                    time_s=round(time, 3),
                    png=base64.b64encode(png).decode("ascii"),
                    trace_mv=[round(float(v), 3) for v in signal[max(0, first) : last]],
                )
            )
    return found
