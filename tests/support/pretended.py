"""Experiments that are done at once: nothing is trained, answers are made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecgbeats import experiment
from ecgbeats.crossval import Crossval, Part
from ecgbeats.experiment import MODEL, OUTCOME, PREDICTIONS, predictions_table
from ecgbeats.files import sha256_text, write_json
from ecgbeats.imaging.store import BeatImages
from ecgbeats.inference import CARD
from ecgbeats.split import TEST
from ecgbeats.training import make_task


class PretendedParts:
    """Takes the place of `ecgbeats.crossval.run_part`; may be killed on the way.

    Attributes
    ----------
    done : list of Part
        In order.
    die_at : int or None
        When so many are done, the next is killed, once.
    """

    def __init__(self, share_right: Callable[[Crossval, Part], float]) -> None:
        self._share_right = share_right
        self.done: list[Part] = []
        self.die_at: int | None = None

    def __call__(self, crossval: Crossval, part: Part) -> None:
        if len(self.done) == self.die_at:
            self.die_at = None
            raise KeyboardInterrupt
        self.done.append(part)
        images = BeatImages.open(crossval.images)
        sides, train = crossval.folds.sides(part.fold), crossval.train_params(part)
        task = make_task(images, sides, crossval.classes, crossval.headline)
        index = task.index(TEST)
        labels = task.labels[index]
        rng = np.random.default_rng([part.seed, part.fold])
        right = rng.random(len(labels)) < self._share_right(crossval, part)
        answers = np.where(right, labels, (labels + 1) % len(crossval.classes))
        table = predictions_table(
            sides, crossval.classes, index, np.eye(len(crossval.classes))[answers]
        )
        folder = crossval.folder / part.name
        (folder / MODEL).mkdir(parents=True, exist_ok=True)
        weights = sha256_text(part.name)
        write_json(
            folder / MODEL / CARD,
            {
                "model": crossval.model.model_dump(mode="json"),
                "parameters": 7,
                "spec_id": images.spec.spec_id,
                "image": images.spec.model_dump(mode="json"),
                "weights_sha256": weights,
                "training": {"best_epoch": 1, "validation_macro_f1": 0.5},
            },
        )
        table.to_parquet(folder / PREDICTIONS)
        fingerprint = experiment._fingerprint(task, crossval.model, train, images.digest())
        write_json(
            folder / OUTCOME,
            {
                "fingerprint": fingerprint,
                "classes": list(crossval.classes),
                "train_seconds": 2.0,
            },
        )
