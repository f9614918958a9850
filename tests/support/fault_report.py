"""Counts faults that tests inject, and writes what became of them: a plugin of `make test-faults`.

A test of `tests/faults` says itself what it tried (its fixture `tried`). Of tests elsewhere that
inject one fault each, passing is surviving; their names are printed by
`python -m tests.support.fault_report`.
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
# Tests elsewhere that docs/faults.md names, and of what kind their faults are.
_IN_FILES = {
    "tests/pipeline/test_promotion.py": {
        "test_killed_at_any_step_it_is_the_old_state_or_the_new": "kill: promotion",
        "test_a_run_killed_at_any_step_is_completed_by_the_next": "kill: packaging of a run",
        "test_clocks_that_disagree_do_not_turn_the_log_around": "clocks that disagree",
        "test_of_two_that_decide_at_the_same_time_one_is_told": "two at once",
        "test_a_bento_that_failed_its_trial_is_tried_again": "bento that failed its trial",
        "test_a_damaged_bento_is_made_anew_and_tried": "tampering: bento",
        "test_a_log_that_was_tampered_with_is_not_believed": "tampering: promotion log",
    },
    "tests/pipeline/test_cluster.py": {
        "test_a_worker_that_is_killed_loses_nothing": "cluster: worker killed",
        "test_work_that_kills_each_worker_is_given_up": "cluster: worker killed",
        "test_a_killed_client_ends_the_jobs_that_it_started": "cluster: client killed",
        "test_an_address_at_which_nothing_answers_is_an_error_in_time": "cluster: no scheduler",
        "test_a_scheduler_that_goes_half_way_is_an_error_in_time": "cluster: scheduler gone",
    },
    "tests/pipeline/test_data.py": {
        "test_a_process_killed_half_way_leaves_what_the_next_one_clears_up": "kill: data add",
        "test_killed_while_dvc_writes_its_file_no_version_is_lost": "kill: data add",
    },
    "tests/pipeline/test_registry.py": {
        "test_a_damaged_database_is_named_in_one_line": "database of MLflow",
        "test_a_database_that_refuses_is_named_at_once_without_its_password": "database of MLflow",
        "test_artifacts_that_were_exchanged_together_are_refused": "tampering: MLflow's artifacts",
    },
    "tests/pipeline/test_release.py": {
        "test_whatever_is_changed_is_named": "tampering: release folder",
    },
    "tests/service/test_bento.py": {
        "test_a_damaged_bento_is_not_whole_and_is_made_anew": "tampering: bento",
        "test_a_network_with_a_card_to_match_is_refused_too": "tampering: bento",
        "test_a_tampered_network_is_refused_at_start": "tampering: bento",
    },
    "tests/service/test_sources_physionet_http.py": {
        "test_passing_fault_is_overcome": "service: PhysioNet",
        "test_passing_fault_of_the_first_file_is_overcome": "service: PhysioNet",
        "test_lasting_fault_is_an_error_and_what_came_stays": "service: PhysioNet",
        "test_killed_run_leaves_no_half_file_and_is_taken_up_again": "kill: download",
    },
    "tests/unit/test_flow_history.py": {
        "test_a_damaged_database_is_put_aside_with_a_word": "Prefect's database cut off",
    },
    "tests/unit/test_model_folder.py": {
        "test_a_damaged_model_folder_is_refused_by_the_name_of_the_file": "tampering: model folder",
    },
    "tests/unit/test_training.py": {
        "test_a_changed_network_is_refused": "tampering: model folder",
        "test_same_seed_same_bytes_and_a_killed_training_resumes_to_them": "kill: train",
    },
    "tests/unit/test_sources_physionet.py": {
        "test_wrong_byte_in_the_mirror_never_gets_the_final_name": "data: wrong bytes",
    },
    "tests/unit/test_additions.py": {
        "test_a_record_with_one_fault_is_quarantined_for_that_fault_alone": "data: quarantined",
    },
    "tests/unit/test_validation.py": {
        "test_a_header_that_tells_more_samples_than_there_are": "data: refused by validate",
        "test_a_record_without_beats": "data: refused by validate",
        "test_a_record_without_the_usual_lead": "data: refused by validate",
        "test_a_sampling_rate_that_does_not_fit_the_annotations": "data: refused by validate",
        "test_a_wrong_unit": "data: refused by validate",
        "test_an_annotation_past_the_end": "data: refused by validate",
        "test_an_odd_sampling_rate": "data: refused by validate",
        "test_annotations_that_stop_half_way": "data: refused by validate",
        "test_lead_names": "data: refused by validate",
        "test_missing_samples": "data: refused by validate",
    },
}
ELSEWHERE = {
    f"{file}::{test}": kind for file, tests in _IN_FILES.items() for test, kind in tests.items()
}
# Of a test that failed outside the faults that it notes.
OTHER = "other"
COLUMNS = ("tried", "survived", "lost", "not_met")
_WHERE = "ECGBEATS_FAULTS_REPORT"


class Fault:
    """One fault, which may turn out not to have happened."""

    def __init__(self) -> None:
        self.met = True


class Tried:
    """Notes each fault of one test by its kind, and whether the block about it came to its end.

    A fault that did not happen, for what it was meant for was over before, is not one that was
    survived: the block says so by `fault.met = False`.
    """

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    @contextmanager
    def __call__(self, kind: str) -> Iterator[Fault]:
        fault, became = Fault(), "lost"
        try:
            yield fault
            became = "survived" if fault.met else "not met"
        finally:
            self._properties.append((PROPERTY, [kind, became]))


class FaultReport:
    """Collects from all workers, in the process that they report to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._became: dict[str, Counter[str]] = {}
        self._skipped: list[str] = []
        self._broken: list[str] = []

    def _note(self, kind: str, became: str) -> None:
        self._became.setdefault(kind, Counter())[became] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(OTHER, "lost")
            self._broken.append(f"{report.nodeid}: not collected")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._skipped.append(f"{report.nodeid}: {reason}")
            return
        kind = ELSEWHERE.get(report.nodeid.partition("[")[0])
        if report.when != "call":
            # In what leads to a fault, or follows, or with its whole process ("???", of xdist):
            # what could not be tried was not survived.
            if report.failed:
                self._note(OTHER if kind is None or report.when == "teardown" else kind, "lost")
                self._broken.append(f"{report.nodeid}: {report.when}")
            return
        found = [value for name, value in report.user_properties if name == PROPERTY]
        if kind is not None:
            found.append([kind, "survived" if report.passed else "lost"])
        for each, became in found:
            self._note(each, became)
        if report.failed:
            self._broken.append(f"{report.nodeid}: failed")
            if not any(became == "lost" for _, became in found):
                self._note(OTHER, "lost")

    def pytest_sessionfinish(self) -> None:
        rows = [
            {"kind": kind, "tried": became["survived"] + became["lost"]}
            | {name.replace(" ", "_"): became[name] for name in ("survived", "lost", "not met")}
            for kind, became in sorted(self._became.items())
        ]
        total = {key: sum(int(row[key]) for row in rows) for key in COLUMNS}
        seed = int(os.environ.get("ECGBEATS_FAULTS_SEED", "1"))
        content = {"seed": seed, **total, "kinds": rows}
        content |= {"skipped": self._skipped, "broken": self._broken}
        write_json(self._folder / "faults.json", content)
        write_text(self._folder / "faults.md", _markdown(content, rows))


def _markdown(content: dict[str, object], rows: list[dict[str, object]]) -> str:
    lines = [
        f"# Faults: {content['tried']} tried, {content['survived']} survived, "
        f"{content['lost']} lost",
        "",
        f"Seed {content['seed']}. What was done, and what counts as survived: docs/faults.md. "
        "Not met: what the fault was meant for was over before it came; not counted as tried.",
        "",
        "| kind | tried | survived | lost | not met |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {r['kind']} | {' | '.join(str(r[key]) for key in COLUMNS)} |" for r in rows),
    ]
    for key, words in (("skipped", "Not tried here"), ("broken", "Failed")):
        if content[key]:
            lines += ["", f"{words}: {json.dumps(content[key])}"]
    return "\n".join(lines) + "\n"


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get(_WHERE)
    if folder and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultReport(Path(folder)), "fault-report")


if __name__ == "__main__":
    print("\n".join(ELSEWHERE))
