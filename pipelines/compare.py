"""`ecgbeats compare`: what two models, of whatever kind of name, answer on the same beats.

A registered version is run now, on the test side as it lies here, as the gate runs it. What a
commit, an experiment or the working tree answered, its evaluate stage has written down.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgbeats.comparison import Answers, compare
from ecgbeats.comparison_page import Drawn, write_comparison
from ecgbeats.config import Params
from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.files import read_json
from ecgbeats.imaging.store import BEATS, BeatImages
from ecgbeats.inference import Classifier
from ecgbeats.measuring import PREDICTIONS
from ecgbeats.regression import TestSide, drawn_for, predict
from ecgbeats.split import read_split
from pipelines import model_folder, registry
from pipelines.dag import Dag
from pipelines.gating import METRICS, check_test_side, hash_of_test_side, split_folder
from pipelines.promotion_log import overrides_in
from pipelines.registry import Registered
from pipelines.revisions import Revision
from pipelines.tracking import model_name

WORKING_TREE = "."
_KEY = ["record", "sample"]
_RUN = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"(?P<name>[^@/:\s]+)[@/](?P<which>[^@/\s]+)")


@dataclass(frozen=True)
class Side:
    """One of the two: its answers, what it saw, and what was measured of it when it was made.

    Attributes
    ----------
    metrics : mapping
        The content of metrics.json.
    """

    answers: Answers
    drawn: Drawn
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where the working tree is, and a folder for what is brought."""

    root: Path
    dag: Dag
    params: Params
    scratch: Path


def compare_references(
    root: Path,
    dag: Dag,
    params: Params,
    references: tuple[str, str],
    out: Path,
    *,
    recipe: str | None = None,
) -> dict[str, Any]:
    """Compare what two references name, and write page, JSON, Markdown and a table to `out`.

    Parameters
    ----------
    references : (str, str)
        Each a version (`NAME@3`, `NAME@champion`, `NAME/3`; NAME a recipe or a model), an
        MLflow run of one, a commit, branch, tag or experiment, or "." for the working tree.
    recipe : str, optional
        Of commits; by default that of the version which is the other side.

    Returns
    -------
    dict
        `ecgbeats.comparison.compare`.

    Raises
    ------
    ConfigError
        A reference names nothing, or it is not known of which recipe.
    ContractError
        They were tested on other beats, or answer other classes.
    DataError
        What is needed is not here.
    """
    versions = [_version(params, reference) for reference in references]
    known = [version.tags["recipe"] for version in versions if version is not None]
    with ExitStack() as stack:
        sides = []
        for reference, version in zip(references, versions, strict=True):
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="ecgbeats-compare-"))
            place = Place(root, dag, params, Path(scratch))
            if version is not None:
                sides.append(of_version(place, version))
            else:
                sides.append(of_revision(place, reference, _recipe(params, recipe, known)))
        return write(out, sides[0], sides[1])


def write(out: Path, first: Side, second: Side) -> dict[str, Any]:
    """Compare two sides and write what `ecgbeats.comparison_page.write_comparison` writes."""
    settings = first.metrics["bootstrap"]
    found = compare(
        first.answers,
        second.answers,
        first.metrics["headline"]["classes"],
        replicates=settings["replicates"],
        seed=settings["seed"],
    )
    write_comparison(out, found, first.answers, second.answers, (first.drawn, second.drawn))
    return found


def folder_name(references: Sequence[str]) -> str:
    """A name for what is compared, that any file system takes."""
    words = ["tree" if name == WORKING_TREE else name for name in references]
    return "--".join(re.sub(r"[^A-Za-z0-9._@-]+", "-", word) for word in words)


def of_version(place: Place, version: Registered) -> Side:
    """A registered version, run now on the test side of its recipe as it lies here.

    Raises
    ------
    ContractError
        It was measured on another test side, or its artifacts are not its own.
    DataError
        The test side here is not that of the present data and parameters.
    """
    # Promotion knows how to bring a version; comparing is no part of it.
    from pipelines.promotion import candidate_of

    recipe = version.tags["recipe"]
    check_test_side(place.dag, recipe)
    candidate = candidate_of(version, place.scratch)
    split = read_split(split_folder(place.dag, recipe))
    now = hash_of_test_side(split)
    if candidate.test_side not in (None, now):
        raise ContractError(
            f"compare: {version.name} version {version.version} was tested on another test side "
            f"({str(candidate.test_side)[:12]}) than the one that is here ({now[:12]})"
        )
    side = TestSide(
        raw=place.dag.data(recipe),
        images=BeatImages.open(place.dag.out(recipe, "render")),
        split=split,
        scheme=place.params.scheme_of(recipe),
    )
    classifier = model_folder.load(candidate.model)
    metrics = read_json(candidate.report / METRICS)
    answers = Answers(
        name=f"{version.name} version {version.version}",
        about=_about_version(version),
        classes=classifier.classes,
        predictions=predict(classifier, side),
        synthetic=version.tags["synthetic"] == "true",
    )
    return Side(answers, Drawn(classifier.spec.spec_id, _Redrawn(classifier, side)), metrics)


def of_revision(place: Place, reference: str, recipe: str) -> Side:
    """What the evaluate stage wrote down, at a commit or in the working tree.

    Raises
    ------
    ConfigError, DataError
        There is no such commit, or its outputs are in no cache that can be reached.
    """
    predictions = place.dag.out(recipe, "evaluate", "evaluation") / PREDICTIONS
    metrics_file = place.dag.out(recipe, "evaluate", METRICS)
    folder = place.dag.out(recipe, "render")
    about = {"recipe": recipe}
    if reference == WORKING_TREE:
        revision, name = None, "working tree"
        stale = [s.address for s in place.dag.plan(recipe) if not place.dag.unchanged(s)]
        about["not up to date"] = ", ".join(stale) or "nothing"
        if not predictions.is_file():
            raise DataError(f"{predictions}: is not there; run `dvc repro verdict@{recipe}` first")
    else:
        revision, name = Revision(place.root, reference), reference
        about["commit"] = revision.commit
        predictions, metrics_file = revision.fetch([predictions, metrics_file], place.scratch)
    metrics = read_json(metrics_file)
    table = pd.read_parquet(predictions)
    about["weights"] = str(metrics["weights_sha256"])
    answers = Answers(
        name=f"{name} ({recipe})",
        about=about,
        classes=tuple(metrics["confusion"]["classes"]),
        predictions=table,
        synthetic=bool(metrics["synthetic"]),
    )
    images = _Kept(folder, revision, place.scratch)
    return Side(answers, Drawn(str(metrics["spec_id"]), images), metrics)


@dataclass(frozen=True)
class _Redrawn:
    """Images of beats of the test side, as the model takes them."""

    classifier: Classifier
    side: TestSide

    def __call__(self, beats: pd.DataFrame) -> npt.NDArray[np.uint8]:
        with tempfile.TemporaryDirectory(prefix="ecgbeats-gallery-") as scratch:
            records = frozenset(map(str, beats["record"]))
            images = drawn_for(self.classifier, self.side, Path(scratch) / "images", records)
            return _rows(images, beats)


@dataclass(frozen=True)
class _Kept:
    """Images as the render stage has drawn them; of a commit, from DVC's cache."""

    folder: Path
    revision: Revision | None
    scratch: Path

    def __call__(self, beats: pd.DataFrame) -> npt.NDArray[np.uint8]:
        folder = self.folder
        if self.revision is not None:
            names = [BEATS, *(f"{name}.npy" for name in sorted(set(beats["record"])))]
            folder = self.revision.fetch([folder / name for name in names], self.scratch)[0].parent
        # Of a commit only these records are here.
        table = pd.read_parquet(folder / BEATS)
        found = table.set_index(_KEY)["row"].reindex(pd.MultiIndex.from_frame(beats[_KEY]))
        _check_all_there(folder, found.isna().to_numpy())
        records = sorted(set(beats["record"]))
        shards = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in records}
        pairs = zip(beats["record"], found.astype(int), strict=True)
        return np.stack([np.asarray(shards[name][row]) for name, row in pairs])


def _rows(images: BeatImages, beats: pd.DataFrame) -> npt.NDArray[np.uint8]:
    found = pd.MultiIndex.from_frame(images.beats[_KEY]).get_indexer(
        pd.MultiIndex.from_frame(beats[_KEY])
    )
    _check_all_there(images.folder, found < 0)
    return images.take(found)


def _check_all_there(folder: Path, missing: npt.NDArray[np.bool_]) -> None:
    if missing.any():
        raise ContractError(
            f"{folder}: expected the images of all beats that were tested; "
            f"{int(missing.sum())} are not there"
        )


def _version(params: Params, reference: str) -> Registered | None:
    """The version that `reference` names; None where it has not the form of one."""
    if _RUN.fullmatch(reference):
        return registry.version_of_run(reference)
    match = _VERSION.fullmatch(reference)
    if match is None:
        return None
    name, which = match["name"], match["which"]
    if name in params.recipes:
        name = model_name(name)
    elif not name.startswith(model_name("")):
        return None  # a branch such as feature/faster
    return registry.find(f"{name}/{which}" if which.isdigit() else f"{name}@{which}")


def _about_version(version: Registered) -> dict[str, str]:
    tags = version.tags
    told = {
        "recipe": tags["recipe"],
        "alias": version.alias or "none",
        "gate": "approved" if version.approved else "rejected",
        "weights": tags["weights_sha256"],
        "data": tags["data_hash"],
        "commit": tags["git_commit"] + (" and changes" if tags["git_dirty"] == "true" else ""),
        "MLflow run": version.run_id,
    }
    if registry.TEST_SIDE not in tags:
        told["test side"] = "not known which; registered before that was kept"
    for count, words in enumerate(overrides_in(tags), start=1):
        told[f"overruled, {count}"] = words
    return told


def _recipe(params: Params, given: str | None, known: Sequence[str]) -> str:
    if given is None and not known:
        raise ConfigError("compare: expected --recipe with two commits or experiments")
    recipe = known[0] if given is None else given
    params.recipe(recipe)
    return recipe
