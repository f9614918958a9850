"""What is expected of the windows, as a suite for Great Expectations."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ecgbeats.monitoring.drift import CLASSES, UNCERTAIN, Compared
from ecgbeats.monitoring.reference import CONFIDENCE
from ecgbeats.monitoring.settings import MonitorParams
from ecgbeats.validation.suites import Expectation, Suite

# For people: what each feature is.
TITLES = {
    "image_mean": "Grey of the image, mean",
    "image_contrast": "Contrast of the image",
    "image_peak": "Strongest parts of the image",
    "image_noise": "Noise in the image",
    "image_rhythm": "Rhythm strip, distance from even",
    "amplitude_mv": "R amplitude (mV)",
    "noise_mv": "Noise of the signal (mV)",
    "rr_s": "RR interval (s)",
    CONFIDENCE: "Confidence of the answer",
    CLASSES: "Classes answered",
    UNCERTAIN: "Answered “uncertain”",
}


def drift_suites(compared: Sequence[Compared], params: MonitorParams) -> tuple[Suite, ...]:
    """One expectation a feature, over the windows that can be judged; and how many can be.

    Parameters
    ----------
    compared : sequence of Compared
        The windows that decide.
    """
    windows = pd.DataFrame(
        [
            {
                "window": f"window {each.window.number}",
                "beats": each.window.logged,
                "patients": each.patients,
            }
            for each in compared
        ],
        columns=["window", "beats", "patients"],
    )
    suites = [
        Suite(
            "windows",
            windows,
            ("window",),
            (
                Expectation(
                    "enough_beats",
                    f"Every window has at least {params.least_beats} logged beats",
                    "ExpectColumnValuesToBeBetween",
                    {"column": "beats", "min_value": params.least_beats},
                    severity="warning",
                ),
                Expectation(
                    "enough_patients",
                    f"Every window counts as at least {params.least_patients} patients",
                    "ExpectColumnValuesToBeBetween",
                    {"column": "patients", "min_value": params.least_patients},
                    severity="warning",
                ),
            ),
        )
    ]
    rows = [
        {
            "window": f"window {each.window.number}",
            "feature": distance.feature,
            "statistic": distance.statistic,
            "of_threshold": distance.of_threshold,
        }
        for each in compared
        if each.state in ("steady", "drifted")
        for distance in each.distances
    ]
    if rows:
        table = pd.DataFrame(rows)
        features = list(dict.fromkeys(table["feature"]))
        suites.append(
            Suite(
                "drift",
                table,
                ("window", "feature", "statistic"),
                tuple(
                    Expectation(
                        f"{feature}_is_as_in_the_reference",
                        f"{TITLES.get(feature, feature)}: no distance over its threshold",
                        "ExpectColumnValuesToBeBetween",
                        {"column": "of_threshold", "max_value": 1.0},
                        rows=("feature", (feature,)),
                    )
                    for feature in features
                ),
            )
        )
    return tuple(suites)
