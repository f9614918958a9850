"""A challenger against the champion: both run now, on the same beats of the same test side."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgbeats.bootstrap import paired_difference
from ecgbeats.config import EvaluateParams, NoRegression
from ecgbeats.datasets import Manifest, read_description
from ecgbeats.errors import ConfigError, ContractError
from ecgbeats.experiment import predictions_table
from ecgbeats.gate import Row
from ecgbeats.imaging.store import BeatImages, render_dataset, store_pictures
from ecgbeats.inference import Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.split import TEST, Split

_CHUNK = 8192
_NAMES = "accuracy, headline.macro_f1, or gross.<class>.se, ppv or f1"


@dataclass(frozen=True)
class TestSide:
    """The frozen test side of a recipe, and what it takes to draw it in another way.

    Attributes
    ----------
    raw : Path
        The dataset folder.
    images : BeatImages
        As the recipe draws them.
    split : Split
    scheme : LabelScheme
    """

    # It is no test of pytest's.
    __test__ = False

    raw: Path
    images: BeatImages
    split: Split
    scheme: LabelScheme

    @property
    def index(self) -> np.ndarray:
        """Rows of the split that are tested on."""
        return np.flatnonzero((self.split.beats["side"] == TEST).to_numpy())

    @property
    def patients(self) -> frozenset[str]:
        return frozenset(map(str, self.split.beats["patient"].to_numpy()[self.index]))


def predict(classifier: Classifier, side: TestSide) -> pd.DataFrame:
    """The predictions table of a model on the test side (see `ecgbeats.evaluation`).

    A model that takes other images than the recipe draws by now gets the same beats drawn by
    its own spec.

    Raises
    ------
    ContractError
        It answers other classes, or its images have other beats.
    """
    if classifier.classes != side.split.classes:
        raise ContractError(
            f"expected a model of the classes {' '.join(side.split.classes)}, "
            f"got one of {' '.join(classifier.classes)}"
        )
    if classifier.spec.spec_id == side.images.spec.spec_id:
        return _predict(classifier, side, side.images, side.index)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-test-side-") as scratch:
        images = drawn_for(classifier, side, Path(scratch) / "images")
        return _predict(classifier, side, images, _same_rows(images, side))


def drawn_for(
    classifier: Classifier,
    side: TestSide,
    out: Path,
    records: Collection[str] | None = None,
) -> BeatImages:
    """The beats of the test side as `classifier` takes them; drawn to `out` where it must be.

    Parameters
    ----------
    records : collection of str, optional
        Only these are needed.
    """
    if classifier.spec.spec_id == side.images.spec.spec_id:
        return side.images
    if side.scheme.of_folders:
        store_pictures(side.raw, classifier.spec, side.scheme, out)
        return BeatImages.open(out)
    manifest = read_description(side.raw)
    assert isinstance(manifest, Manifest)
    tested = set(side.split.beats["record"].to_numpy()[side.index])
    wanted = tested if records is None else tested & set(records)
    others = [name for name in manifest.record_names if name not in wanted]
    render_dataset(side.raw, classifier.spec, side.scheme, out, exclude=others)
    return BeatImages.open(out)


def no_regression_rows(
    challenger: pd.DataFrame,
    champion: pd.DataFrame,
    classes: Sequence[str],
    checks: Sequence[NoRegression],
    evaluate: EvaluateParams,
    *,
    name: str,
) -> list[Row]:
    """Rows of a verdict: is the challenger, patient for patient, no worse than the champion?

    Measured is the lower end of the 95 % interval of the difference, from a bootstrap in which
    both meet the same resampled patients: what is not shown to be within the margin fails. An
    interval that is undefined fails as well.

    Parameters
    ----------
    challenger, champion : DataFrame
        Predictions tables of the same beats.
    checks : sequence of NoRegression
    evaluate : EvaluateParams
        Headline, replicates and seed, as of the recipe's evaluation.
    name : str
        What the champion is called.

    Raises
    ------
    ConfigError
        A check names no figure that has a difference.
    ContractError
        The tables are not about the same beats.
    """
    differences = paired_difference(
        challenger,
        champion,
        classes,
        evaluate.headline,
        replicates=evaluate.bootstrap,
        seed=evaluate.seed,
    )
    return [_row(check, _of(differences, check.metric), name) for check in checks]


def _row(check: NoRegression, found: Mapping[str, Any], name: str) -> Row:
    interval = found["interval"]
    measured = None if interval is None else float(interval[0])
    detail = "no interval: too few patients, or undefined for most of them"
    if interval is not None and None not in (found["challenger"], found["champion"]):
        detail = (
            f"{found['challenger']:.3f} against {found['champion']:.3f} of {name}, difference "
            f"{found['difference']:+.3f} (95 % {interval[0]:+.3f} to {interval[1]:+.3f}), "
            "both run now on the same beats"
        )
    return {
        "what": f"{check.metric}: difference from the champion, lower end of its 95 % interval",
        "metric": f"champion.{check.metric}",
        "measured": measured,
        "required": f">= {-check.margin:g}",
        "passed": measured is not None and measured >= -check.margin,
        "detail": detail,
        **{key: found[key] for key in ("challenger", "champion", "difference", "interval")},
    }


def _of(differences: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """The difference of the figure that `metric` is called in metrics.json."""
    if metric in ("accuracy", "headline.macro_f1"):
        return dict(differences[metric.rpartition(".")[2]])
    where, _, rest = metric.partition(".")
    label, _, kind = rest.rpartition(".")
    if where != "gross" or kind not in ("se", "ppv", "f1") or label not in differences[kind]:
        raise ConfigError(f"no_regression: expected {_NAMES}; got {metric!r}")
    return dict(differences[kind][label])


def _predict(
    classifier: Classifier, side: TestSide, images: BeatImages, rows: np.ndarray
) -> pd.DataFrame:
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    probabilities = np.concatenate([classifier.predict(images.take(chunk)) for chunk in chunks])
    return predictions_table(side.split.beats, side.split.classes, side.index, probabilities)


def _same_rows(images: BeatImages, side: TestSide) -> np.ndarray:
    """Rows of `images` that show the beats of the test side, in its order."""
    drawn = pd.MultiIndex.from_frame(images.beats[["record", "sample"]])
    rows = drawn.get_indexer(
        pd.MultiIndex.from_frame(side.split.beats.iloc[side.index][["record", "sample"]])
    )
    if (rows < 0).any():
        raise ContractError(
            f"{side.raw}: expected all {len(rows)} beats of the test side; "
            f"{int((rows < 0).sum())} of them are not there"
        )
    return np.asarray(rows)
