"""The gate: does a model reach what its protocol demands?

Judging and enforcing are apart. `judge` writes down what holds and never fails over a bad
model, so that the verdict can be an output of a pipeline; `enforce` stops whoever must not
go on.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ecgbeats.errors import ConfigError, GateFailed
from ecgbeats.files import write_json, write_text

if TYPE_CHECKING:
    from ecgbeats.config import Check

SCHEMA = 1

Row = dict[str, Any]

_FIGURES = {
    "se": "sensitivity",
    "ppv": "positive predictivity",
    "specificity": "specificity",
    "f1": "F1",
    "auc_roc": "area under the ROC curve",
    "auc_pr": "average precision",
    "support": "reference beats",
    "share": "share of the class's beats that one patient holds",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1 of the headline classes",
    "macro_f1_all": "macro-F1 of all classes",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "log_loss": "log loss",
    "beats": "beats tested",
    "patients": "patients tested",
    "records": "records tested",
    "onnx_mb": "MB of the served network",
    "one_ms": "ms for one image, median",
    "batch_ms": "ms for a batch of 64 images, median",
}
_VIEWS = {
    "gross": "all beats pooled",
    "average": "mean of records",
    "ec57": "without the first 5 minutes",
    "without_largest_patient": "without the patient who has most of its beats",
}


def judge(evaluation: Mapping[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """Hold a model's figures against the gate.

    Parameters
    ----------
    evaluation : mapping
        The content of metrics.json.
    checks : sequence of Check
        At least one.

    Returns
    -------
    dict
        "schema", "recipe", "weights_sha256", "synthetic", "passed", and "checks": a list of
        {"what", "metric", "measured", "required", "passed"}. A figure that is undefined
        (None, or not finite) fails its check, whatever the bound.

    Raises
    ------
    ConfigError
        There is no check, or one names no figure of `evaluation`.
    """
    if not checks:
        raise ConfigError("gate: expected at least one check, got none; nothing would pass for all")
    head = {
        "schema": SCHEMA,
        **{key: evaluation[key] for key in ("recipe", "weights_sha256", "synthetic")},
        "passed": True,
        "checks": [],
    }
    return joined(head, rows_of(evaluation, checks))


def rows_of(figures: Mapping[str, Any], checks: Sequence[Check]) -> list[Row]:
    """A row of a verdict for each check on `figures`; see `judge`."""
    return [_judge_one(figures, check) for check in checks]


def none_of(metric: str, what: str, measured: int | None) -> Row:
    """A row that holds when there is none of what must not be."""
    return {
        "what": what,
        "metric": metric,
        "measured": None if measured is None else float(measured),
        "required": "<= 0",
        "passed": measured == 0,
    }


def joined(verdict: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """`verdict` with further checks; it passes when all of them do."""
    checks = [*verdict["checks"], *rows]
    passed = bool(checks) and all(row["passed"] is True for row in checks)
    return {**verdict, "passed": passed, "checks": checks}


def failed_metrics(verdict: Mapping[str, Any]) -> list[str]:
    """Names of the checks that do not hold."""
    return [str(row["metric"]) for row in verdict["checks"] if row["passed"] is not True]


def enforce(verdict: Mapping[str, Any]) -> None:
    """Return if the model passed, else raise.

    Raises
    ------
    GateFailed
        Naming each failed check with what was measured and what is required.
    """
    failed = [row for row in verdict["checks"] if row["passed"] is not True]
    if failed or not verdict["checks"] or verdict["passed"] is not True:
        reasons = "; ".join(
            f"{row['metric']}: required {row['required']}, measured {_measured(row['measured'])}"
            for row in failed
        )
        raise GateFailed(
            f"{verdict['recipe']}: the gate fails {len(failed)} of {len(verdict['checks'])} "
            f"checks. {reasons or 'The verdict holds no check that passed.'}"
        )


def write_verdict(out: Path, verdict: Mapping[str, Any], evaluation: Mapping[str, Any]) -> None:
    """Write verdict.md for people, verdict.xml (JUnit) for CI and verdict.json to `out`."""
    write_text(out / "verdict.md", verdict_markdown(verdict, evaluation))
    write_text(out / "verdict.xml", verdict_junit(verdict))
    write_json(out / "verdict.json", verdict)


def verdict_markdown(verdict: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """The verdict for a pull request: the answer first, then what it rests on."""
    failed = sum(not row["passed"] for row in verdict["checks"])
    total = len(verdict["checks"])
    lines = [
        f"## {_cell(verdict['recipe'])}: {'passed' if verdict['passed'] else 'FAILED'}",
        "",
        f"All {total} checks hold." if not failed else f"{failed} of {total} checks fail.",
        "",
    ]
    if verdict["synthetic"]:
        lines += [
            "> **Sample data.** Synthetic recordings: these figures show that the pipeline "
            "runs, and are no evidence about real ECGs.",
            "",
        ]
    lines += ["| | check | measured | required |", "| --- | --- | ---: | ---: |"]
    lines += [
        f"| {'pass' if row['passed'] else '**FAIL**'} | {_cell(row['what'])} "
        f"(`{_cell(row['metric'])}`) | {_measured(row['measured'])} | {_cell(row['required'])} |"
        for row in verdict["checks"]
    ]
    details = [row for row in verdict["checks"] if row.get("detail")]
    if details:
        lines += ["", *(f"- `{_cell(r['metric'])}`: {_cell(r['detail'])}" for r in details)]
    head = evaluation["headline"]
    lines += [
        "",
        f"Macro-F1 over {_cell(', '.join(head['classes']))}: "
        f"{with_interval(head['macro_f1'], head['macro_f1_interval'])}. Accuracy: "
        f"{with_interval(evaluation['accuracy'], evaluation['accuracy_interval'])}. "
        f"Measured on {evaluation['beats']:,} beats of {evaluation['patients']} patients; "
        "in brackets 95 % intervals by resampling patients.",
        "",
        "| class | beats | Se | +P | F1 [95 %] | Se, mean of records |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, gross in evaluation["gross"].items():
        cells = [
            _cell(name),
            f"{gross['support']:,}",
            with_interval(gross["se"]),
            with_interval(gross["ppv"]),
            with_interval(gross["f1"], gross["f1_interval"]),
            with_interval(evaluation["average"][name]["se"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    dataset = evaluation["dataset"]
    lines += [
        "",
        f"Dataset {_cell(dataset['name'])} {_cell(dataset['version'])}; "
        f"weights SHA-256 `{_cell(verdict['weights_sha256'])}`.",
    ]
    return "\n".join(lines) + "\n"


def verdict_junit(verdict: Mapping[str, Any]) -> str:
    """The verdict as JUnit XML, a test case for each check; equal verdicts give equal bytes."""
    failed = failed_metrics(verdict)
    counts = {"tests": str(len(verdict["checks"])), "failures": str(len(failed)), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _plain(verdict["recipe"]), **counts})
    for row in verdict["checks"]:
        name = {"classname": f"gate.{_plain(verdict['recipe'])}", "name": _plain(row["metric"])}
        case = ElementTree.SubElement(suite, "testcase", name)
        said = f"required {row['required']}, measured {_measured(row['measured'])}"
        words = _plain("\n".join(filter(None, [row["what"], said, row.get("detail")])))
        if row["passed"] is True:
            ElementTree.SubElement(case, "system-out").text = words
        else:
            ElementTree.SubElement(case, "failure", {"message": _plain(said)}).text = words
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: object) -> str:
    """Without characters that XML 1.0 cannot hold."""
    return "".join(c for c in str(text) if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))


def _judge_one(evaluation: Mapping[str, Any], check: Check) -> dict[str, Any]:
    measured = _look_up(evaluation, check.metric)
    if check.at_least is not None:
        bound, required = check.at_least, f">= {check.at_least:g}"
        holds = measured is not None and measured >= bound
    else:
        assert check.at_most is not None  # Check has just one bound
        bound, required = check.at_most, f"<= {check.at_most:g}"
        holds = measured is not None and measured <= bound
    return {
        "what": _in_words(check.metric),
        "metric": check.metric,
        "measured": measured,
        "required": required,
        "passed": holds,
    }


def _look_up(evaluation: Mapping[str, Any], path: str) -> float | None:
    """The figure at a dotted path; None where it is undefined."""
    figures = dict(_figures(evaluation))
    if path not in figures:
        near = difflib.get_close_matches(path, figures, n=3) or sorted(figures)[:3]
        raise ConfigError(
            f"gate: expected the dotted path of a figure in metrics.json, such as "
            f"{', '.join(near)}; got {path!r}"
        )
    value = figures[path]
    return None if value is None or not math.isfinite(value) else value


def _figures(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float | None]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{path}{key}.")
        elif value is None:
            yield f"{path}{key}", None
        elif isinstance(value, Real) and not isinstance(value, bool):
            yield f"{path}{key}", float(value)


def _in_words(path: str) -> str:
    """What a dotted path means, e.g. gross.S.se: "S: sensitivity, all beats pooled"."""
    *where, last = path.split(".")
    views = [_VIEWS[part] for part in where if part in _VIEWS]
    about = [part for part in where if part not in (*_VIEWS, "headline", "calibration")]
    words = ", ".join([_FIGURES.get(last, last), *views])
    return f"{'.'.join(about)}: {words}" if about else words


def _measured(value: float | None) -> str:
    """With enough digits to be told from a bound that it just misses."""
    return "undefined" if value is None else f"{value:.6g}"


def with_interval(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A figure with three decimals, its interval in brackets; "undefined" for None."""
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _cell(text: object) -> str:
    """Text that cannot break a Markdown table or smuggle in markup."""
    plain = " ".join(str(text).split()).replace("|", "\\|").replace("`", "'")
    return plain.replace("<", "&lt;")
