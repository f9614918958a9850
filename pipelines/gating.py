"""The gate at a decision: what files say, and what this machine and the registry say now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgbeats.config import NoRegression, Params, PatientSplit
from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.files import read_json, sha256_file, sha256_text
from ecgbeats.gate import Row, joined, judge, none_of, rows_of
from ecgbeats.imaging.store import BeatImages
from ecgbeats.inference import CARD, ONNX
from ecgbeats.latency import latency
from ecgbeats.leakage import PATIENTS, TWINS
from ecgbeats.regression import TestSide, no_regression_rows, predict
from ecgbeats.split import TEST, Split, read_split
from pipelines import model_folder
from pipelines.dag import Dag

SPLIT, METRICS, VERDICT = "split.json", "metrics.json", "verdict.json"
# What a test side is made by; all must be up to date for it to be the protocol's.
_MAKE_THE_TEST_SIDE = ("fetch", "unite", "validate", "render", "split")


@dataclass(frozen=True)
class Candidate:
    """A model, and what was measured and judged of it when it was made.

    Attributes
    ----------
    name : str
        What it is called in verdicts.
    model : Path
        Its model folder.
    report : Path
        Folder with metrics.json, verdict.json and split.json.
    test_side : str or None
        `hash_of_test_side` of the beats that its figures are of; None if not known.
    """

    name: str
    model: Path
    report: Path
    test_side: str | None = None


def report_folder(dag: Dag, recipe: str, name: str) -> Path:
    """Where a verdict that is no stage's output is written, beside the one that is."""
    return dag.out(recipe, "verdict", VERDICT).parent / name


def last_verdict(dag: Dag, recipe: str) -> tuple[dict[str, Any], bool]:
    """The verdict of the last run on the present files, and whether there is one.

    Else that of the files alone, which knows neither latency nor champion.
    """
    files: dict[str, Any] = read_json(dag.out(recipe, "verdict", VERDICT))
    path = report_folder(dag, recipe, "gate") / VERDICT
    if path.is_file():
        whole: dict[str, Any] = read_json(path)
        checks = files["checks"]
        # Of another model, or held to another gate, it says nothing of this one.
        same = whole["weights_sha256"] == files["weights_sha256"]
        if same and whole["checks"][: len(checks)] == checks:
            return whole, True
    return files, False


def split_folder(dag: Dag, recipe: str) -> Path:
    """Where the split of `recipe` lies."""
    (stage,) = (stage for stage in dag.plan(recipe) if stage.name == "split")
    return dag.option(stage, "--out")


def hash_of_test_side(split: Split) -> str:
    """Hash of which beats are tested, and as what."""
    tested = split.beats[split.beats["side"] == TEST].sort_values(["record", "sample"])
    return sha256_text(tested[["record", "sample", "label"]].to_csv(index=False))


def check_test_side(dag: Dag, recipe: str) -> None:
    """Make sure that the test side here is the one of the present data and parameters.

    Raises
    ------
    DataError
        Naming the stages that are not up to date.
    ContractError
        Naming the files that are not what those stages made.
    """
    stages = [stage for stage in dag.plan(recipe) if stage.name in _MAKE_THE_TEST_SIDE]
    stale = [stage.address for stage in stages if not dag.unchanged(stage)]
    if stale:
        raise DataError(
            f"{recipe}: expected the test side of the present data and parameters; not up to "
            f"date: {', '.join(stale)}. Run `make run RECIPE={recipe}` first, or `dvc pull`."
        )
    for stage in stages:
        dag.check_whole(stage)


def live_rows(
    dag: Dag,
    params: Params,
    recipe: str,
    candidate: Candidate,
    champion: Candidate | None,
) -> list[Row]:
    """Checks of `candidate` that hang on this machine and on who is champion.

    Where champion and candidate cannot be compared on the test side as it is, the checks
    fail, with the reason as their detail.
    """
    protocol = params.protocol_of(recipe)
    rows = rows_of(latency(model_folder.load(candidate.model, threads=1)), protocol.serving)
    if champion is None or not protocol.no_regression:
        return rows
    side = TestSide(
        raw=dag.data(recipe),
        images=BeatImages.open(dag.out(recipe, "render")),
        split=read_split(split_folder(dag, recipe)),
        scheme=params.scheme_of(recipe),
    )
    if isinstance(protocol.split, PatientSplit):
        may = protocol.patients_on_both_sides
        rows += [_seen(side, who, role, may) for who, role in _roles(candidate, champion)]
    else:
        # Known patients are the protocol's point, known beats are not; other folds share them.
        now = hash_of_test_side(side.split)
        rows += [_apart(now, who, role) for who, role in _roles(candidate, champion)]
    ours = predict(model_folder.load(candidate.model), side)
    try:
        if not champion.model.is_dir():
            raise DataError("its model is not there")
        loaded = model_folder.load(champion.model)
        # In a run in which nothing changed they are one model. Its card holds the network's hash.
        same = sha256_file(champion.model / CARD) == sha256_file(candidate.model / CARD)
        theirs = ours if same else predict(loaded, side)
    except (ContractError, DataError, ConfigError) as error:
        # A lead that the records of today lack, say, or a folder of another kind.
        return rows + incomparable(protocol.no_regression, champion.name, error)
    return rows + no_regression_rows(
        ours,
        theirs,
        side.split.classes,
        protocol.no_regression,
        params.recipe(recipe).evaluate,
        name=champion.name,
    )


def incomparable(checks: Sequence[NoRegression], name: str, why: Exception) -> list[Row]:
    """Rows of `ecgbeats.regression.no_regression_rows` that fail, for nothing could be measured."""
    return [
        {
            "what": f"{check.metric}: difference from the champion",
            "metric": f"champion.{check.metric}",
            "measured": None,
            "required": f">= {-check.margin:g}",
            "passed": False,
            "detail": f"cannot be compared with {name}: {why}",
        }
        for check in checks
    ]


def whole_verdict(
    dag: Dag,
    params: Params,
    recipe: str,
    candidate: Candidate,
    champion: Candidate | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The verdict on a registered version as it is now, and the metrics that it rests on.

    Figures are those measured when it was made, held against the gate of today, and must be of
    today's test side; what was found of leaks is taken over; the rest is asked anew.
    """
    metrics: dict[str, Any] = read_json(candidate.report / METRICS)
    size = {"size": {"onnx_mb": (candidate.model / ONNX).stat().st_size / 1e6}}
    verdict = judge({**metrics, **size}, params.protocol_of(recipe).gate)
    now = hash_of_test_side(read_split(split_folder(dag, recipe)))
    rows = [
        none_of(
            "test_side",
            "its figures were measured on another test side than today's",
            None if candidate.test_side is None else int(candidate.test_side != now),
        )
    ]
    rows += _leaks(read_json(candidate.report / VERDICT), params, recipe)
    rows += live_rows(dag, params, recipe, candidate, champion)
    return joined(verdict, rows), metrics


def _leaks(verdict: Mapping[str, Any], params: Params, recipe: str) -> list[Row]:
    found = [row for row in verdict["checks"] if row["metric"] in (PATIENTS, TWINS)]
    if isinstance(params.protocol_of(recipe).split, PatientSplit) and not any(
        row["metric"] == PATIENTS for row in found
    ):
        found.append(none_of(PATIENTS, "patients on more than one side: not measured", None))
    return found


def _roles(candidate: Candidate, champion: Candidate) -> list[tuple[Candidate, str]]:
    return [(candidate, "challenger"), (champion, "champion")]


def _apart(now: str, who: Candidate, role: str) -> Row:
    """Whether the beats of the test side were kept from a model: those that it was tested on."""
    what = f"beats of the test side that may have trained the {role}"
    if who.test_side == now:
        return none_of(f"leakage.{role}", what, 0)
    return none_of(f"leakage.{role}", f"{what}: {who.name} had another test side", None)


def _seen(side: TestSide, who: Candidate, role: str, allowed: Collection[str]) -> Row:
    """Whether a model was trained on patients of the test side that it now meets."""
    path = who.report / SPLIT
    what = f"patients of the test side on whom the {role} was trained"
    if not path.is_file():
        return none_of(f"leakage.{role}", f"{what}: not known of {who.name}", None)
    patients = read_json(path)["patients"]
    learnt = {name for part in ("train", "validation") for name in patients.get(part, ())}
    return none_of(f"leakage.{role}", what, len((learnt & side.patients) - set(allowed)))
