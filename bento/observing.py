"""One line a classified request for whoever watches the model: features, no pixels, no names.

What a line holds is documented in docs/monitoring.md. Rows of beats are in the order of
their values, not of time. Whatever goes wrong here, the request is answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bento.answers import Model
from bento.limits import LOGGED_BEATS
from bento.logs import emit
from ecgbeats import observation
from ecgbeats.inference import UNCERTAIN, Classifier

if TYPE_CHECKING:
    from ecgbeats.answering import Answered

EVENT = "classified"


def observe_images(
    endpoint: str,
    classifier: Classifier,
    model: Model,
    images: np.ndarray,
    probabilities: np.ndarray,
    answers: Sequence[str],
) -> None:
    """Write the line of images that one model answered."""
    _quietly(lambda: _line(endpoint, classifier, model, images, probabilities, answers))


def observe_recording(
    endpoint: str, classifier: Classifier, model: Model, answered: Answered, answers: Sequence[str]
) -> None:
    """Write the line of a recording."""
    _quietly(
        lambda: _line(
            endpoint,
            classifier,
            model,
            answered.images,
            answered.probabilities,
            answers,
            answered,
        )
    )


def _line(
    endpoint: str,
    classifier: Classifier,
    model: Model,
    images: np.ndarray,
    probabilities: np.ndarray,
    answers: Sequence[str],
    answered: Answered | None = None,
) -> dict[str, Any]:
    some = observation.pick(len(images), LOGGED_BEATS)
    confidence = np.round(probabilities[some].max(axis=1).astype(np.float64), 2)
    strip = int(getattr(classifier.spec, "strip_height", 0))
    features = observation.image_features(images[some], strip)
    if answered is not None:
        lead = answered.recording.signal[:, answered.lead]
        features |= observation.signal_features(lead, answered.samples, answered.recording.fs, some)
    columns = {"confidence": confidence, **features}
    order = observation.shuffled(columns)
    best = probabilities[some].argmax(axis=1)
    return {
        "features": observation.FEATURES_VERSION,
        "endpoint": endpoint,
        "model": {
            "name": model.name,
            "version": model.version,
            "weights": classifier.card["weights_sha256"],
        },
        "beats": len(images),
        "answers": dict(Counter(answers)),
        "sample": {
            "class": [classifier.classes[int(k)] for k in best[order]],
            "uncertain": [int(answers[int(some[k])] == UNCERTAIN) for k in order],
            **observation.as_json({name: values[order] for name, values in columns.items()}),
        },
        "recording": None if answered is None else _of_recording(answered),
    }


def _of_recording(answered: Answered) -> dict[str, Any]:
    from ecgbeats.beats import lead_name

    recording, samples = answered.recording, answered.samples
    irregular = observation.irregularity(samples)
    rr = np.diff(samples) / recording.fs
    return {
        "fs": round(recording.fs, 1),
        "minutes": round(recording.seconds / 60, 1),
        "lead": observation.known_lead(lead_name(recording.leads[answered.lead])),
        "rate_bpm": round(60 / float(rr.mean())) if len(rr) else None,
        "rr_median_s": round(float(np.median(rr)), 2) if len(rr) else None,
        "rr_irregularity": None if irregular is None else round(irregular, 2),
    }


def _quietly(line: Callable[[], dict[str, Any]]) -> None:
    if not LOGGED_BEATS:
        return
    try:
        emit(EVENT, **line())
    except Exception as error:
        # Its kind alone: its words may quote what came.
        emit("not_observed", error=type(error).__name__)
