"""From lines of a log to "retrain": what drifts, what does not, and what cannot be told."""

import gzip
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbeats.errors import ContractError, DataError, NothingYet
from ecgbeats.files import write_json
from ecgbeats.monitoring import distances
from ecgbeats.monitoring.drift import Compared, asked, by_beats, by_hours, compare
from ecgbeats.monitoring.log import Request, read_logs
from ecgbeats.monitoring.reference import Reference, read_reference
from ecgbeats.monitoring.run import monitor
from ecgbeats.monitoring.settings import MonitorParams
from tests.support.logs import BEGIN, Change, line, lines, nothing, taller, write_reference, written

pytestmark = pytest.mark.unit

PARAMS = MonitorParams(window_beats=8 * 32, resamples=2000)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return write_reference(tmp_path_factory.mktemp("reference") / "reference.json")


def judged(tmp_path: Path, reference: Reference, changes: list[Change]) -> list[Compared]:
    log = read_logs([written(tmp_path / "log", lines(changes))])
    (requests,) = log.requests.values()
    return compare(by_beats(requests, PARAMS.window_beats), reference, PARAMS)


def test_a_changed_gain_asks_for_retraining_at_its_second_window_and_not_before(
    tmp_path: Path, reference: Reference
) -> None:
    found = judged(tmp_path, reference, [nothing, nothing, *[taller(3)] * 3])
    assert [each.state for each in found] == ["steady"] * 2 + ["drifted"] * 3
    assert [asked(found[:k], PARAMS) for k in range(1, 6)] == [False, False, False, True, True]
    over = {d.feature for d in found[2].distances if d.of_threshold > 1}
    assert over == {"amplitude_mv", "noise_mv"}
    # Of beats as many as these, were they independent, none would be this far away by chance.
    steady = next(
        d for d in found[0].distances if (d.feature, d.statistic) == ("amplitude_mv", "ks")
    )
    assert steady.value > 1.63 / np.sqrt(8 * 32) and steady.of_threshold < 1


@pytest.mark.parametrize("kind", ["uncertain", "classes", "empty"])
def test_each_kind_of_drift_is_seen(kind: str, tmp_path: Path, reference: Reference) -> None:
    def change(value: dict[str, Any]) -> None:
        sample = value["sample"]
        if kind == "uncertain":
            sample["uncertain"] = [k % 3 == 0 for k in range(32)]
        elif kind == "classes":
            sample["class"] = ["V"] * 16 + ["N"] * 16
        else:
            sample["image_contrast"] = [
                0.0 if k % 2 else v for k, v in enumerate(sample["image_contrast"])
            ]

    (found,) = judged(tmp_path, reference, [change])
    over = {d.feature for d in found.distances if d.of_threshold > 1}
    name = {"uncertain": "uncertain", "classes": "class_mix", "empty": "image_contrast"}[kind]
    assert over == {name}


def test_new_patients_are_no_drift(tmp_path: Path, reference: Reference) -> None:
    found = judged(tmp_path, reference, [nothing] * 12)
    # Two in a hundred windows may; two of twelve would in two of a hundred cases.
    assert sum(each.state == "drifted" for each in found) <= 1


@pytest.mark.parametrize("tested", [1, 3])
def test_few_tested_patients_do_not_make_everything_drift(
    tested: int, tmp_path: Path, reference: Reference
) -> None:
    few = replace(
        reference,
        confidence=reference.confidence[:tested],
        shares=reference.shares[:tested],
        uncertain=reference.uncertain[:tested],
    )
    found = judged(tmp_path, few, [nothing, taller(3)])
    assert found[1].state == "drifted"
    assert all(np.isfinite(each.threshold) for window in found for each in window.distances)
    usual = {each.feature: each.usual is not None for each in found[0].distances}
    assert usual["amplitude_mv"] and not usual["confidence"] and not usual["class_mix"]
    over = {each.feature for each in found[0].distances if each.of_threshold > 1}
    assert "amplitude_mv" not in over and "rr_s" not in over


def test_one_drifted_window_is_no_persistent_drift(tmp_path: Path, reference: Reference) -> None:
    found = judged(tmp_path, reference, [taller(3), *[nothing] * 4, taller(3)])
    assert [each.state for each in found].count("drifted") == 2
    # The first is not among the last five.
    assert not asked(found, PARAMS)


def test_little_is_not_judged(tmp_path: Path, reference: Reference) -> None:
    values = lines([taller(3)])
    log = read_logs([written(tmp_path / "log", values)])
    (requests,) = log.requests.values()
    few = [*by_beats(requests[:2], 20), *by_beats(requests[:1], 500)]
    assert [each.state for each in compare(few, reference, PARAMS)] == [
        "too little", "too little", "still filling",
    ]  # fmt: skip
    # Three hundred single images in a row are those of a few patients at most.
    singles = [line(0, beats=1) for _ in range(256)]
    log = read_logs([written(tmp_path / "singles", singles)])
    (window,) = by_beats(next(iter(log.requests.values())), 256)
    assert window.patients(PARAMS) == 256 // PARAMS.beats_per_patient


def test_windows_by_time_stay_where_they_are_when_the_log_grows() -> None:
    def request(minute: float) -> Request:
        return Request(BEGIN + timedelta(minutes=minute), "e", 1, ("N",), np.zeros(1, bool), {}, {})

    first = by_hours([request(m) for m in (0, 50, 70)], 1)
    more = by_hours([request(m) for m in (0, 50, 70, 200)], 1)
    assert [len(w.requests) for w in first] == [2, 1] and [w.whole for w in first] == [True, False]
    assert [len(w.requests) for w in more] == [2, 1, 1]
    assert [w.begin for w in more][:2] == [w.begin for w in first]


def test_what_is_no_request_of_the_model_is_counted_and_named(
    tmp_path: Path, reference: Reference
) -> None:
    broken = line(0)
    broken["sample"]["confidence"] = [0.5]
    other = line(1, weights="cd" * 32)
    values: list[Any] = [*lines([taller(3)] * 2), {"event": "refused"}, broken, other, 7]
    values.append({**line(2), "features": 0})
    huge, rateless = line(3), line(4)
    huge["sample"]["confidence"][0] = 10**399
    rateless["recording"]["fs"] = None
    # Twice, as where a log is there plain and packed.
    twice = {**line(5, weights="cd" * 32), "request_id": "r1"}
    values += [huge, rateless, twice, twice]
    path = written(tmp_path / "log", values)
    path.write_bytes(path.read_bytes() + b'{"event": "classified", "ti\n\xff\xfe\n')
    (tmp_path / "log.gz").write_bytes(gzip.compress(path.read_bytes()))
    paths = [tmp_path / "log.gz", tmp_path / "." / "out" / ".." / "log.gz"]
    done = monitor("tiny", paths, reference, PARAMS, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert done.retrain and said["retrain"] and said["drifted"] == [1, 2]
    assert said["log"]["other_events"] == {"refused": 1}
    assert list(said["log"]["of_others"].values()) == [2]
    assert list(said["log"]["of_this_model"].values()) == [16]
    assert said["log"]["ignored"] == {
        "classified, but its rows are not of one length": {"lines": 1, "first": "log.gz, line 18"},
        "no JSON object": {"lines": 3, "first": "log.gz, line 20"},
        "features of another version than 1": {"lines": 1, "first": "log.gz, line 21"},
        "classified, but int too large to convert to float": {
            "lines": 1,
            "first": "log.gz, line 22",
        },
        "classified, but its sampling rate is no number": {"lines": 1, "first": "log.gz, line 23"},
        "a request that was read already": {"lines": 1, "first": "log.gz, line 25"},
    }
    failed = {e["name"] for e in said["expectations"] if not e["success"]}
    assert failed == {f"{name}_is_as_in_the_reference" for name in ("amplitude_mv", "noise_mv")}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "retraining is asked for" in page and "SAMPLE DATA" in page
    # It needs nothing else.
    assert "http://" not in page and "https://" not in page and "<script" not in page
    packed = (tmp_path / "log.gz").read_bytes()
    damaged = packed[: len(packed) // 2] + b"\xff" * 40 + packed[len(packed) // 2 + 40 :]
    (tmp_path / "log.gz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"log\.gz: cannot be read: "):
        read_logs([tmp_path / "log.gz"])


def test_a_log_of_other_models_alone_is_refused_by_name(
    tmp_path: Path, reference: Reference
) -> None:
    path = written(tmp_path / "log", [line(0, weights="cd" * 32)])
    with pytest.raises(NothingYet, match=r"weights abab.*1 of ecgbeats-tiny 1 \(weights cdcd"):
        monitor("tiny", [path], reference, PARAMS, tmp_path / "out")


def test_a_file_that_is_no_reference_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"schema": 1, "features": 99})
    with pytest.raises(ContractError, match="features of version 1, got 99"):
        read_reference(tmp_path / "a.json")
    write_json(tmp_path / "b.json", [1])
    with pytest.raises(DataError, match="expected a reference"):
        read_reference(tmp_path / "b.json")


def test_distances_are_those_of_scipy() -> None:
    from scipy.stats import ks_2samp, wasserstein_distance

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=150), rng.normal(0.4, 1.3, 90)
    grid = distances.grid_of(one[None], [other])
    first, second = (distances.cumulative(each, grid) for each in (one, other))
    assert distances.ks(first, second) == pytest.approx(ks_2samp(one, other).statistic)
    assert distances.wasserstein(first, second, grid, 1.0) == pytest.approx(
        wasserstein_distance(one, other)
    )
    # Half of the reference's beats moved from one bin of ten to another.
    p, q = np.full(10, 0.1), np.array([0.05, 0.15, *[0.1] * 8])
    assert distances.psi(p, q) == pytest.approx(0.05 * np.log(2) + 0.05 * np.log(1.5))
