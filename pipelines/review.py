"""What a pull request does to the recipes: reproduced, compared with main, and judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ecgbeats.comparison import check_comparable
from ecgbeats.comparison_page import comparison_markdown
from ecgbeats.config import Params, SampleSource
from ecgbeats.errors import ContractError, DataError, EcgbeatsError, GateFailed, ServiceError
from ecgbeats.gate import Row, failed_metrics, joined, verdict_markdown
from ecgbeats.regression import no_regression_rows
from pipelines import compare
from pipelines.compare import WORKING_TREE, Place, Side
from pipelines.dag import Dag
from pipelines.gating import incomparable
from pipelines.revisions import Revision, inputs

Tell = Callable[[str], None]
_LOCK = "dvc.lock"
# The stages that no other needs.
_ENDS = ("verdict", "reference")


@dataclass
class Review:
    """What was found.

    Attributes
    ----------
    changed : list of str
        Recipes that the base has otherwise, or not at all.
    skipped : list of str
        Of these, those that cannot be reproduced here.
    markdown : str
        All of it, for a job's summary.
    error : EcgbeatsError or None
        GateFailed where a gate says no; what else went wrong otherwise.
    """

    changed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    markdown: str = ""
    error: EcgbeatsError | None = None


def changed_recipes(root: Path, dag: Dag, base: str) -> list[str]:
    """Recipes of which a stage has other code, parameters or another command than at `base`, or
    another record in dvc.lock.

    One that is out of date at the base already, and that the branch leaves alone, is not among
    them. Data need not be here.
    """
    revision = Revision(root, base)
    told, tells = revision.inputs(), inputs(None, root)
    before, now = _recorded(root, revision), _recorded(root, None)
    other = _changed_files(root, revision.commit)

    def changed(address: str) -> bool:
        code = [Path(path) for path in tells[address]["code"]]
        return (
            told.get(address) != tells[address]
            or before.get(address) != now.get(address)
            or any(path == file or path in file.parents for path in code for file in other)
        )

    return [
        recipe
        for recipe in dag.recipes()
        if any(changed(stage.address) for stage in dag.plan(recipe))
    ]


def review(
    root: Path,
    dag: Dag,
    params: Params,
    base: str,
    run: Callable[[str], Any],
    tell: Tell,
) -> Review:
    """Reproduce each recipe that is not as at `base`, compare it with that, and judge it.

    Where a DVC remote is configured, what it has is pulled first. Without one only recipes on
    generated data are reproduced.

    Parameters
    ----------
    run : callable
        Runs the flow for a recipe and returns its `pipelines.retrain.Run`.
    """
    done = Review(changed_recipes(root, dag, base))
    remote = has_remote(root)
    parts = [f"# Recipes against {base}", ""]
    if not done.changed:
        parts.append("No recipe is changed: stages, parameters and code are as they were.")
    for recipe in done.changed:
        base_data, additions = params.parts_of(params.recipe(recipe).dataset)
        generated = isinstance(params.datasets[base_data], SampleSource) and not additions
        if not remote and not generated:
            done.skipped.append(recipe)
            words = (
                f"{recipe}: changed, and not reproduced here: it needs real data, and no DVC "
                "remote is configured"
            )
            tell(words)
            parts += [f"## {recipe}", "", words, "", *_figures(root, dag, base, recipe)]
            continue
        if remote:
            tell(f"{recipe}: pulling what the remote has")
            _pull(root, dag, recipe, tell)
        tell(f"{recipe}: reproducing")
        parts += _one(root, dag, params, base, recipe, run(recipe), done)
    done.markdown = "\n".join([*parts, ""])
    return done


def has_remote(root: Path) -> bool:
    """Whether DVC has a default remote."""
    return bool(_dvc(root, "config", "core.remote").stdout.strip())


def _one(
    root: Path, dag: Dag, params: Params, base: str, recipe: str, ran: Any, done: Review
) -> list[str]:
    """Sections on one recipe; what stops the review goes to `done`."""
    if ran.error is not None and not isinstance(ran.error, GateFailed):
        done.error = ran.error
        return [f"## {recipe}: failed", "", str(ran.error), ""]
    rows, words = _against(root, dag, params, base, recipe)
    verdict = joined(ran.verdict, rows)
    failed = failed_metrics(verdict)
    if failed and done.error is None:
        done.error = GateFailed(f"{recipe}: the gate rejects it: {', '.join(failed)}")
    head, _, rest = verdict_markdown(verdict, ran.metrics).partition("\n")
    if params.protocol_of(recipe).no_regression and not rows:
        head += f"; NOT COMPARED with {base}"
    return [f"{head}\n{rest}", *_figures(root, dag, base, recipe), words]


def _against(root: Path, dag: Dag, params: Params, base: str, recipe: str) -> tuple[list[Row], str]:
    """The checks against the base, and the comparison in words.

    Where answers are there and cannot be compared, because labels or split are others, the checks
    fail, as against a champion. Where the base's are in no cache, there is nothing to check.
    """
    with TemporaryDirectory(prefix="ecgbeats-review-") as scratch:
        place = Place(root, dag, params, Path(scratch))
        try:
            theirs = compare.of_revision(place, base, recipe)
        except DataError as error:
            # Figures can be compared, as git has them.
            return [], f"Beat by beat there is no comparison with {base}: {error}\n"
        try:
            ours = compare.of_revision(place, WORKING_TREE, recipe)
            check_comparable(theirs.answers, ours.answers)
            rows = _no_regression(params, recipe, ours, theirs, base)
        except (ContractError, DataError) as error:
            checks = params.protocol_of(recipe).no_regression
            rows = _told_of_base(incomparable(checks, base, error), base)
            return rows, f"Beat by beat there is no comparison with {base}: {error}\n"
        out = root / "reports" / "comparisons" / compare.folder_name((base, recipe))
        try:
            return rows, comparison_markdown(compare.write(out, theirs, ours))
        except EcgbeatsError as error:
            # The images of the base, for one, are no part of what is checked.
            return rows, f"There is no page of the comparison with {base}: {error}\n"


def _no_regression(params: Params, recipe: str, ours: Side, theirs: Side, base: str) -> list[Row]:
    rows = no_regression_rows(
        ours.answers.predictions,
        theirs.answers.predictions,
        ours.answers.classes,
        params.protocol_of(recipe).no_regression,
        params.recipe(recipe).evaluate,
        name=base,
    )
    return _told_of_base(rows, base)


def _told_of_base(rows: Sequence[Row], base: str) -> list[Row]:
    """The rows speak of the champion, who was run; here the base stands in its place."""
    told = {"champion.": "base.", "the champion": base, "both run now on": "both on"}
    return [
        {**row, **{key: _renamed(row[key], told) for key in ("metric", "what", "detail")}}
        for row in rows
    ]


def _renamed(text: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def _figures(root: Path, dag: Dag, base: str, recipe: str) -> list[str]:
    """`dvc metrics diff` of the recipe's metrics, which git has, folded away."""
    path = dag.out(recipe, "evaluate", "metrics.json").relative_to(root).as_posix()
    found = _dvc(root, "metrics", "diff", "--md", "--precision", "4", base, "--targets", path)
    table = found.stdout.strip()
    if found.returncode:
        why = found.stderr.strip().splitlines()[-1:] or [f"it ended with {found.returncode}"]
        return [f"Figures could not be compared, by `dvc metrics diff`: {why[0]}", ""]
    if not table:
        return ["Figures: as they were.", ""]
    title = f"All figures that changed, {base} and now"
    return [f"<details><summary>{title}</summary>", "", table, "", "</details>", ""]


def _pull(root: Path, dag: Dag, recipe: str, tell: Tell) -> None:
    # What was added is behind no stage's name, only behind the stage that needs it.
    targets = [stage.address for stage in dag.plan(recipe) if stage.name in _ENDS]
    done = _dvc(root, "pull", "--run-cache", "--force", "--with-deps", *targets)
    if done.returncode:
        # What is missing there is made here.
        tell(f"{recipe}: not all is in the remote: {done.stderr.strip().splitlines()[-1:]}")


def _recorded(root: Path, revision: Revision | None) -> dict[str, Any]:
    """Stages in dvc.lock, then or now."""
    path = root / _LOCK
    with TemporaryDirectory(prefix="ecgbeats-base-") as scratch:
        try:
            if revision is not None:
                (path,) = revision.fetch([path], Path(scratch))
            text = path.read_text(encoding="utf-8")
        except (DataError, FileNotFoundError):
            text = ""
    return dict((yaml.safe_load(text) or {}).get("stages", {}))


def _changed_files(root: Path, commit: str) -> list[Path]:
    """Files that are not as at that commit, also such as are not committed yet."""
    names = []
    for words in (["diff", "--name-only", commit], ["ls-files", "--others", "--exclude-standard"]):
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise ServiceError(f"git {words[0]}: {done.stderr.strip()}")
        names += done.stdout.splitlines()
    return [Path(name) for name in names]


def _dvc(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)
