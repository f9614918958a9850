"""How long a model takes to answer, on this machine and now."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ecgbeats.inference import Classifier

# As many as the pipelines send to the service in one request.
BATCH = 64
_SINGLES, _BATCHES = 100, 20


def latency(classifier: Classifier) -> dict[str, Any]:
    """Median time of one image and of a batch of 64.

    The network alone, as the service runs it, without HTTP and the decoding of PNGs. The
    median, because a machine that does other things too must not decide over a model.

    Parameters
    ----------
    classifier : Classifier
        Loaded with the threads that the service gives it: one.

    Returns
    -------
    dict
        "latency": {"one_ms", "batch_ms"}, milliseconds.
    """
    shape = classifier.spec.shape
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), dtype=np.uint8)
    return {
        "latency": {
            "one_ms": _median_ms(classifier, images[:1], _SINGLES),
            "batch_ms": _median_ms(classifier, images, _BATCHES),
        }
    }


def _median_ms(classifier: Classifier, images: np.ndarray, times: int) -> float:
    for _ in range(3):
        classifier.predict(images)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        classifier.predict(images)
        taken.append(time.perf_counter() - began)
    return 1e3 * float(np.median(taken))
