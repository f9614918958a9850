"""What a model learnt on and how it answers, patient by patient: what its log is compared with.

Images and signals are those of the patients that it learnt from. Its answers are those to the
patients that tested it: of patients whom it has learnt by heart it is surer than of anybody
else, so that every service would seem to drift. Of each patient 20 quantiles of each feature are
kept, and no name; that is enough to make windows of other patients, and to know how much they
differ although nothing has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgbeats import observation
from ecgbeats.datasets import Description, Manifest
from ecgbeats.errors import ContractError, DataError
from ecgbeats.files import read_json
from ecgbeats.imaging.store import BeatImages
from ecgbeats.progress import Progress
from ecgbeats.records import read_recording
from ecgbeats.split import TRAIN, VALIDATION, Split
from ecgbeats.usable import usable_leads

SCHEMA = 1
REFERENCE = "reference.json"
CONFIDENCE = "confidence"
FEATURES = (*observation.OF_IMAGE, *observation.OF_SIGNAL)

QUANTILES = 20
# As many as a line of the service's log has, unless it is set otherwise.
_BEATS_A_RECORD = 64
# More say no more, and a reference should stay small.
_MOST_PATIENTS = 400


@dataclass(frozen=True)
class Reference:
    """A reference, as read.

    Attributes
    ----------
    about : dict
        Recipe, dataset, synthetic, model: its weights, classes and spec.
    inputs : mapping of str to ndarray, shape (patients, QUANTILES)
        Quantiles of each feature; NaN for a patient of whom it is not known.
    confidence : ndarray, shape (tested patients, QUANTILES)
    shares : ndarray, shape (tested patients, classes)
        Of beats by the most probable class.
    uncertain : ndarray, shape (tested patients,)
        Share of beats without an answer.
    leads, rates : mapping of str to int
        Records by the lead that is drawn, and by samples a second.
    """

    about: Mapping[str, Any]
    inputs: Mapping[str, np.ndarray]
    confidence: np.ndarray
    shares: np.ndarray
    uncertain: np.ndarray
    leads: Mapping[str, int]
    rates: Mapping[str, int]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.about["model"]["classes"])

    @property
    def weights(self) -> str:
        return str(self.about["model"]["weights_sha256"])


def make_reference(
    recipe: str,
    raw: Path,
    described: Description,
    images: BeatImages,
    split: Split,
    card: Mapping[str, Any],
    predictions: pd.DataFrame,
) -> dict[str, Any]:
    """The content of reference.json.

    Parameters
    ----------
    raw : Path
        The dataset folder.
    card : mapping
        The content of model.json.
    predictions : DataFrame
        Of the evaluate stage: patient and p_<class>, one row a beat of the test side.

    Raises
    ------
    ContractError
        Images, split, predictions and model do not belong together.
    """
    classes = tuple(card["classes"])
    columns = [f"p_{name}" for name in classes]
    if images.spec.spec_id != card["spec_id"] or not {*columns} <= {*predictions.columns}:
        raise ContractError(
            f"{recipe}: expected images of spec {card['spec_id']} and answers of "
            f"{', '.join(classes)}; got {images.spec.spec_id} and "
            f"{', '.join(c[2:] for c in predictions.columns if c.startswith('p_'))}"
        )
    if len(split.beats) != len(images.beats):
        raise ContractError(
            f"{recipe}: {len(split.beats)} beats in the split, {len(images.beats)} images"
        )
    table, leads, rates = _inputs(raw, described, images, split)
    answers = _answers(predictions, columns, float(card.get("answer", {}).get("abstain_below", 0)))
    return {
        "schema": SCHEMA,
        "features": observation.FEATURES_VERSION,
        "recipe": recipe,
        "dataset": described.about(),
        "synthetic": described.synthetic,
        "model": {
            "weights_sha256": card["weights_sha256"],
            "spec_id": card["spec_id"],
            "classes": list(classes),
        },
        "inputs": {
            "of": "patients that the model learnt from",
            "patients": int(table["patient"].nunique()),
            "beats": len(table),
            "quantiles": _quantiles(table, FEATURES),
            "leads": leads,
            "rates": rates,
        },
        "answers": {"of": "patients that tested the model", **answers},
    }


def read_reference(path: Path) -> Reference:
    """Read what `make_reference` made.

    Raises
    ------
    DataError
        The file is no reference.
    ContractError
        Its features were computed otherwise than today's.
    """
    try:
        content = read_json(path)
        if content["schema"] != SCHEMA:
            raise DataError(f"{path}: expected schema {SCHEMA}, got {content['schema']}")
        if content["features"] != observation.FEATURES_VERSION:
            raise ContractError(
                f"{path}: expected features of version {observation.FEATURES_VERSION}, got "
                f"{content['features']}; run the stage `reference` again"
            )
        inputs, answers = content["inputs"], content["answers"]
        return Reference(
            about={key: content[key] for key in ("recipe", "dataset", "synthetic", "model")}
            | {"patients": inputs["patients"], "tested": answers["patients"]},
            inputs={name: np.array(rows, float) for name, rows in inputs["quantiles"].items()},
            confidence=np.array(answers["confidence"], float),
            shares=np.array(answers["shares"], float),
            uncertain=np.array(answers["uncertain"], float),
            leads=inputs["leads"],
            rates=inputs["rates"],
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected a reference, as the stage `reference` writes it: "
            f"{type(error).__name__} {error}"
        ) from error


def _inputs(
    raw: Path, described: Description, images: BeatImages, split: Split
) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    """Features of some beats of each record that trained, as the service would log them."""
    beats = split.beats.reset_index(drop=True)
    learnt = beats["side"].isin((TRAIN, VALIDATION))
    groups = list(beats[learnt].groupby("record", sort=True))
    recordings = described if isinstance(described, Manifest) else None
    strip = int(getattr(images.spec, "strip_height", 0))
    tables: list[pd.DataFrame] = []
    leads: dict[str, int] = {}
    rates: dict[str, int] = {}
    progress = Progress("reference", len(groups))
    for record, rows in groups:
        some = rows.index.to_numpy()[observation.pick(len(rows), _BEATS_A_RECORD)]
        found = observation.image_features(images.take(some), strip)
        if recordings is not None:
            # Intervals and amplitudes need all beats of the recording, whoever they teach.
            every = beats.index[beats["record"] == record].to_numpy()
            recording = read_recording(raw / str(record))
            usable, _, column, _ = usable_leads(recording, images.spec, None)
            found |= observation.signal_features(
                usable.signal[:, column],
                beats["sample"].to_numpy()[every],
                usable.fs,
                np.searchsorted(every, some),
            )
            _count(leads, _lead(usable.leads[column]))
            _count(rates, f"{usable.fs:g}")
        tables.append(pd.DataFrame({"patient": beats["patient"].to_numpy()[some], **found}))
        progress.step(str(record))
    table = pd.concat(tables, ignore_index=True)
    patients = table["patient"].unique()
    kept = patients[observation.pick(len(patients), _MOST_PATIENTS)]
    return table[table["patient"].isin(kept)].reset_index(drop=True), leads, rates


def _lead(name: str) -> str:
    from ecgbeats.beats import lead_name

    return observation.known_lead(lead_name(name))


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _answers(predictions: pd.DataFrame, columns: list[str], abstain_below: float) -> dict[str, Any]:
    probabilities = predictions[columns].to_numpy(float)
    confidence = probabilities.max(axis=1)
    best = probabilities.argmax(axis=1)
    table = pd.DataFrame(
        {
            "patient": predictions["patient"].to_numpy(),
            CONFIDENCE: np.round(confidence, 2),
            "uncertain": confidence < abstain_below,
        }
    )
    for k in range(len(columns)):
        table[k] = best == k
    shares = table.groupby("patient", sort=True)[["uncertain", *range(len(columns))]].mean()
    shares = shares.iloc[observation.pick(len(shares), _MOST_PATIENTS)]
    table = table[table["patient"].isin(shares.index)]
    return {
        "patients": len(shares),
        "beats": len(table),
        CONFIDENCE: _quantiles(table, (CONFIDENCE,))[CONFIDENCE],
        "uncertain": [round(float(v), 4) for v in shares["uncertain"]],
        "shares": [
            [round(float(v), 4) for v in row]
            for row in shares[list(range(len(columns)))].to_numpy(float)
        ],
    }


def _quantiles(table: pd.DataFrame, names: tuple[str, ...]) -> dict[str, list[list[float | None]]]:
    """Of each feature that there is, for each patient in turn; null where it is not known."""
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    found: dict[str, list[list[float | None]]] = {}
    for name in names:
        if name not in table or table[name].isna().all():
            continue
        rows: list[list[float | None]] = []
        for _, values in table.groupby("patient", sort=True)[name]:
            known = values.dropna().to_numpy(float)
            rows.append(
                [float(f"{v:.4g}") for v in np.quantile(known, at)]
                if len(known)
                else [None] * QUANTILES
            )
        found[name] = rows
    return found
