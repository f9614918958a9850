"""A predictions table as a real test set gives it: rare classes, and one patient who rules S."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

CLASSES = ("N", "S", "V", "F", "Q")
HEADLINE = ("N", "S", "V")

# Beats of N, S, V, F and Q: patient p01 holds most S beats, Q has three in all.
_BEATS = {
    "p01": (300, 260, 5, 0, 0),
    "p02": (420, 6, 60, 0, 0),
    "p03": (500, 0, 40, 2, 1),
    "p04": (380, 12, 0, 0, 0),
    "p05": (450, 0, 80, 30, 0),
    "p06": (510, 3, 12, 0, 0),
    "p07": (400, 0, 0, 0, 2),
    "p08": (350, 20, 33, 1, 0),
    "p09": (470, 4, 9, 0, 0),
    "p10": (390, 0, 51, 4, 0),
    "p11": (330, 9, 0, 0, 0),
    "p12": (410, 2, 17, 1, 0),
}
# How well a class is told: Dirichlet weight of the reference class.
_SURENESS = (6.0, 1.1, 2.2, 0.9, 0.3)


def fake_predictions(seed: int = 0) -> pd.DataFrame:
    """Dirichlet probabilities for 5,574 beats in 12 patients' recordings of half an hour."""
    rng = np.random.default_rng(seed)
    parts = []
    for patient, counts in _BEATS.items():
        labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), counts))
        time_s = np.sort(rng.uniform(1, 1799, len(labels)))
        # Every patient is easy or hard as a whole; p01's S beats happen to be easy.
        ease = rng.uniform(0.7, 1.4) if patient != "p01" else 3.0
        weight = np.full((len(labels), len(CLASSES)), 0.15)
        weight[:, 0] += 0.9
        weight[np.arange(len(labels)), labels] += ease * np.array(_SURENESS)[labels]
        draws = rng.standard_gamma(weight)
        probabilities = (draws / draws.sum(axis=1, keepdims=True)).astype(np.float32)
        parts.append(
            pd.DataFrame(
                {
                    "record": patient.replace("p", "1"),
                    "patient": patient,
                    "sample": (time_s * 360).astype(np.int64),
                    "time_s": time_s,
                    "symbol": np.array(list("NAVFQ"))[labels],
                    "label": labels,
                }
                | {f"p_{name}": probabilities[:, i] for i, name in enumerate(CLASSES)}
            )
        )
    return pd.concat(parts, ignore_index=True)


def table_of(
    labels: list[int],
    predicted: list[int],
    *,
    records: list[str] | None = None,
    patients: list[str] | None = None,
    time_s: list[float] | None = None,
    classes: tuple[str, ...] = ("N", "V"),
    confidence: float = 1.0,
) -> pd.DataFrame:
    """A predictions table from class indices; a record and a patient of its own if not given."""
    n = len(labels)
    rest = (1 - confidence) / (len(classes) - 1)
    probabilities = np.full((n, len(classes)), rest)
    probabilities[np.arange(n), predicted] = confidence
    records = records or ["100"] * n
    return pd.DataFrame(
        {
            "record": records,
            "patient": patients or records,
            "sample": np.arange(n) * 300,
            "time_s": np.arange(n) * 0.8 if time_s is None else time_s,
            "symbol": "N",
            "label": labels,
        }
        | {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    )


def about(**changes: Any) -> dict[str, Any]:
    """What `evaluate` wants to know besides the predictions."""
    return {
        "recipe": "aami5-composite",
        "dataset": {"name": "sample", "version": "1", "licence": "CC0", "synthetic": True},
        "synthetic": True,
        "weights_sha256": "0f" * 32,
        "parameters": 55_000,
        "image": {"representation": "composite", "width": 64, "lead": ["MLII", "II"]},
        "model": {"name": "compact", "options": {"width": 16}},
        "training": {"best_epoch": 4, "validation_macro_f1": 0.91, "beats": {"train": 40_000}},
    } | changes


def history() -> pd.DataFrame:
    """Six epochs of selection and four of refit, as training writes them."""
    select = pd.DataFrame(
        {
            "phase": "select",
            "epoch": range(1, 7),
            "loss": [0.40, 0.22, 0.15, 0.11, 0.09, 0.08],
            "accuracy": [0.88, 0.94, 0.96, 0.97, 0.975, 0.978],
            "validation_loss": [0.35, 0.25, 0.21, 0.20, 0.22, 0.24],
            "validation_macro_f1": [0.60, 0.74, 0.80, 0.83, 0.82, 0.81],
        }
    )
    refit = select.iloc[:4].assign(phase="refit")
    return pd.concat(
        [select, refit.drop(columns=["validation_loss", "validation_macro_f1"])], ignore_index=True
    )


def fake_images(rows: np.ndarray) -> np.ndarray:
    """One grey image of 48 x 64 pixels per row, with a trace in it."""
    x = np.linspace(-1, 1, 64)
    images = np.full((len(rows), 48, 64), 255, np.uint8)
    for image, row in zip(images, rows, strict=True):
        trace = np.exp(-((x / 0.08) ** 2)) * (1 - 0.3 * (row % 5)) + 0.1 * np.sin(6 * x + row)
        y = np.clip(38 - 28 * trace, 0, 47).astype(int)
        image[y, np.arange(64)] = 0
    return images
