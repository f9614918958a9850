"""Counts faults that tests inject, and writes what became of them: a plugin of `make test-faults`.

A test of `tests/faults` says itself what it tried (its fixture `tried`). Of tests elsewhere that
inject one fault each, passing is surviving.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecgbeats.files import write_json, write_text

PROPERTY = "fault"
# Beginnings of the names of such tests, and of what kind their faults are.
ELSEWHERE = {
    "tests/pipeline/test_promotion.py::test_killed_at_any_step": "kill: promotion",
    "tests/pipeline/test_promotion.py::test_a_run_killed_at_any_step": "kill: packaging of a run",
    "tests/service/test_sources_physionet_http.py::test_passing_fault": "service: PhysioNet",
    "tests/service/test_sources_physionet_http.py::test_lasting_fault": "service: PhysioNet",
    "tests/service/test_sources_physionet_http.py::test_killed_run": "kill: download",
}
_WHERE = "ECGBEATS_FAULTS_REPORT"


class Tried:
    """Notes each fault of one test by its kind, and whether the block about it came to its end."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        survived = False
        try:
            yield
            survived = True
        finally:
            self._properties.append((PROPERTY, [kind, survived]))


class FaultReport:
    """Collects from all workers, in the process that they report to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tried: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._skipped.append(f"{report.nodeid}: {reason}")
        if report.when != "call" or report.skipped:
            return
        found = [value for name, value in report.user_properties if name == PROPERTY]
        for begins, kind in ELSEWHERE.items():
            if report.nodeid.startswith(begins):
                found.append([kind, report.passed])
        for kind, survived in found:
            self._tried[kind] += 1
            self._lost[kind] += not survived
        if report.failed and not any(not survived for _, survived in found):
            # It failed in what leads to a fault, or follows: that is no survival either.
            self._tried["other"] += 1
            self._lost["other"] += 1

    def pytest_sessionfinish(self) -> None:
        rows = [
            {"kind": kind, "tried": tried, "survived": tried - self._lost[kind]}
            | {"lost": self._lost[kind]}
            for kind, tried in sorted(self._tried.items())
        ]
        total = {key: sum(row[key] for row in rows) for key in ("tried", "survived", "lost")}
        seed = int(os.environ.get("ECGBEATS_FAULTS_SEED", "1"))
        content = {"seed": seed, **total, "kinds": rows, "skipped": self._skipped}
        write_json(self._folder / "faults.json", content)
        write_text(self._folder / "faults.md", _markdown(content, rows))


def _markdown(content: dict[str, object], rows: list[dict[str, object]]) -> str:
    lines = [
        f"# Faults: {content['tried']} tried, {content['survived']} survived, "
        f"{content['lost']} lost",
        "",
        f"Seed {content['seed']}. What was done, and what counts as survived: docs/faults.md.",
        "",
        "| kind | tried | survived | lost |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {r['kind']} | {r['tried']} | {r['survived']} | {r['lost']} |" for r in rows),
    ]
    skipped = content["skipped"]
    if skipped:
        lines += ["", f"Not tried here: {json.dumps(skipped)}"]
    return "\n".join(lines) + "\n"


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get(_WHERE)
    if folder and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultReport(Path(folder)), "fault-report")
