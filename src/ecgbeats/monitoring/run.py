"""From logs and a reference to a verdict: are the model's present patients those it learnt on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecgbeats.errors import DataError, NothingYet
from ecgbeats.files import write_json, write_text
from ecgbeats.monitoring.drift import Compared, asked, by_beats, by_hours, compare
from ecgbeats.monitoring.expectations import drift_suites
from ecgbeats.monitoring.log import Log, Request, read_logs
from ecgbeats.monitoring.page import render
from ecgbeats.monitoring.reference import Reference
from ecgbeats.monitoring.settings import MonitorParams
from ecgbeats.validation.engine import judge
from ecgbeats.validation.report import Outcome

DRIFT, PAGE, DOCS = "drift.json", "index.html", "data_docs"


@dataclass(frozen=True)
class Monitored:
    """What was found.

    Attributes
    ----------
    retrain : bool
        Whether drift persists.
    verdict : dict
        The content of drift.json.
    """

    retrain: bool
    verdict: dict[str, Any]


def monitor(
    recipe: str,
    logs: Sequence[Path],
    reference: Reference,
    params: MonitorParams,
    out: Path,
    *,
    hours: float | None = None,
    docs: bool = False,
) -> Monitored:
    """Compare the windows of `logs` with `reference`; write drift.json and index.html to `out`.

    Parameters
    ----------
    hours : float, optional
        Windows of so many hours, instead of so many beats.
    docs : bool
        Also build Great Expectations' Data Docs.

    Raises
    ------
    DataError
        A file cannot be read.
    NothingYet
        None of their lines is of the reference's model.
    """
    log = read_logs(logs)
    requests = _of_model(log, reference)
    if hours is None:
        windows = by_beats(requests, params.window_beats)
    else:
        windows = by_hours(requests, hours)
    whole = [window for window in windows if window.whole][-params.windows :]
    shown = [*whole, *(window for window in windows if not window.whole)]
    compared = compare(shown, reference, params)
    deciding = [each for each in compared if each.window.whole]
    outcomes = judge(drift_suites(deciding, params), docs=out / DOCS if docs else None)
    _agree(deciding, outcomes)
    retrain = asked(compared, params)
    verdict = _verdict(recipe, log, reference, params, compared, outcomes, retrain, hours)
    write_text(out / PAGE, render(verdict, compared, reference))
    write_json(out / DRIFT, verdict)
    return Monitored(retrain, verdict)


def _of_model(log: Log, reference: Reference) -> list[Request]:
    """Requests that the reference's network answered, by whatever name, in order of time."""
    ours = [
        request
        for model, requests in log.requests.items()
        if model.weights == reference.weights
        for request in requests
    ]
    if not ours:
        others = "; ".join(f"{len(found)} of {model}" for model, found in log.requests.items())
        raise NothingYet(
            f"log: expected requests that the network with weights {reference.weights[:12]} "
            f"answered; {log.lines} lines hold {others or 'no request of any'}"
        )
    return sorted(ours, key=lambda request: request.time)


def _agree(deciding: Sequence[Compared], outcomes: Sequence[Outcome]) -> None:
    """Great Expectations and the windows' own states say the same, or neither is to be believed."""
    found = {place for o in outcomes if o.suite == "drift" for place in o.found_in}
    drifted = {f"window {each.window.number}" for each in deciding if each.state == "drifted"}
    if found != drifted:
        raise DataError(f"monitor: windows drifted {sorted(drifted)}, by the suite {sorted(found)}")


def _verdict(
    recipe: str,
    log: Log,
    reference: Reference,
    params: MonitorParams,
    compared: Sequence[Compared],
    outcomes: Sequence[Outcome],
    retrain: bool,
    hours: float | None,
) -> dict[str, Any]:
    of_model = {model: len(found) for model, found in log.requests.items()}
    ours = {model for model in of_model if model.weights == reference.weights}
    whole = [each for each in compared if each.window.whole]
    return {
        "schema": 1,
        "recipe": recipe,
        "retrain": retrain,
        "words": in_words(compared, params),
        "drifted": [each.window.number for each in whole if each.state == "drifted"],
        "judged": [e.window.number for e in whole if e.state in ("steady", "drifted")],
        "windows": [_window(each) for each in compared],
        "expectations": [asdict(outcome) for outcome in outcomes],
        "reference": dict(reference.about),
        "settings": {**params.model_dump(mode="json"), "window_hours": hours},
        "log": {
            "lines": log.lines,
            "of_this_model": {str(model): of_model[model] for model in of_model if model in ours},
            "of_others": {str(model): of_model[model] for model in of_model if model not in ours},
            "other_events": dict(log.events),
            "ignored": {
                reason: {"lines": count, "first": log.examples[reason]}
                for reason, count in log.ignored.items()
            },
        },
    }


def _window(each: Compared) -> dict[str, Any]:
    features: dict[str, dict[str, Any]] = {}
    for distance in each.distances:
        features.setdefault(distance.feature, {})[distance.statistic] = {
            "value": _short(distance.value),
            "usual": None if distance.usual is None else _short(distance.usual),
            "threshold": _short(distance.threshold),
            "drifted": distance.of_threshold > 1,
        }
    return {
        "number": each.window.number,
        "state": each.state,
        "begin": each.window.begin.isoformat(timespec="seconds"),
        "end": each.window.end.isoformat(timespec="seconds"),
        "requests": len(each.window.requests),
        "beats": each.window.beats,
        "logged_beats": each.window.logged,
        "as_patients": each.patients,
        "drifted_in": drifted_in(each),
        "class_mix": {name: _short(share) for name, share in each.class_mix.items()},
        "uncertain": _short(each.uncertain),
        "notes": list(each.notes),
        "features": features,
    }


def drifted_in(each: Compared) -> list[str]:
    """Features of which a distance exceeds its threshold, the furthest first."""
    over: dict[str, float] = {}
    for distance in each.distances:
        if distance.of_threshold > 1:
            over[distance.feature] = max(over.get(distance.feature, 0), distance.of_threshold)
    return sorted(over, key=lambda name: -over[name])


def in_words(compared: Sequence[Compared], params: MonitorParams) -> str:
    """The verdict in one sentence."""
    whole = [each for each in compared if each.window.whole]
    drifted = sum(each.state == "drifted" for each in whole)
    judged = sum(each.state in ("steady", "drifted") for each in whole)
    said = f"{drifted} of the last {len(whole)} windows drifted"
    if judged < len(whole):
        said += f", {len(whole) - judged} hold too little to tell"
    if not whole:
        said = "no window is full yet"
    if asked(compared, params):
        return f"{said}: retraining is asked for"
    return f"{said}; retraining is asked for at {params.persistent} of {params.windows}"


def _short(value: float) -> float:
    return float(f"{value:.4g}")
