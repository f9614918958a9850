"""A registry with approved versions of a tiny model, a bento store of files, a gate that obeys."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlflow

from ecgbeats.config import Params
from ecgbeats.errors import ServiceError
from ecgbeats.files import read_json, write_json, write_text
from ecgbeats.golden import read_golden
from ecgbeats.inference import CARD
from pipelines import ledger, promotion, registry
from pipelines.dag import Lineage
from pipelines.promotion import Project
from pipelines.provenance import Code
from pipelines.registry import Evidence, Registered
from tests.support.projects import tiny_params
from tests.support.tiny_model import write_tiny_golden, write_tiny_model

RECIPE = "tiny"
NAME = f"ecgbeats-{RECIPE}"
CODE = Code("8e6c9d1" + "0" * 33, "")
METRICS = {
    "recipe": RECIPE,
    "synthetic": True,
    "weights_sha256": "ab" * 32,
    "accuracy": 0.9,
    "accuracy_interval": [0.8, 0.95],
    "beats": 100,
    "patients": 4,
    "headline": {"classes": ["N"], "macro_f1": 0.8, "macro_f1_interval": [0.7, 0.9]},
    "gross": {},
    "dataset": {"name": "small", "version": "1"},
}


def verdict(*failed: str) -> dict[str, Any]:
    """A verdict on which two checks were made, and `failed` failed."""
    rows = [
        {
            "what": metric,
            "metric": metric,
            "measured": 0.5,
            "required": ">= 0.1",
            "passed": metric not in failed,
        }
        for metric in ("accuracy", "champion.headline.macro_f1")
    ]
    head = {key: METRICS[key] for key in ("recipe", "synthetic", "weights_sha256")}
    return {"schema": 1, **head, "passed": not failed, "checks": rows}


def write_evidence(root: Path) -> Path:
    """What stages leave behind, of a model that needs no training."""
    classifier = write_tiny_model(root / "model")
    write_text(root / "model" / "history.csv", "phase,epoch,loss\nselect,1,0.5\n")
    write_tiny_golden(root / "golden.npz", classifier)
    write_json(root / "metrics.json", METRICS)
    write_json(root / "verdict.json", verdict())
    write_json(root / "split.json", {"patients": {"train": ["a"], "test": ["b"]}})
    write_text(root / "report" / "index.html", "<p>A report.</p>")
    write_text(root / "report" / "plots" / "roc.svg", "<svg/>")
    return root


def registered(files: Path, content: str) -> Registered:
    """The version of that content, registered; who is champion does not change."""
    return registry.register(
        Evidence(
            recipe_name=RECIPE,
            recipe=Params.model_validate(tiny_params()).recipe(RECIPE),
            lineage=Lineage(RECIPE, content=content, data=f"d-{content}", images="i1", model="m1"),
            code=CODE,
            model=files / "model",
            metrics=files / "metrics.json",
            verdict=files / "verdict.json",
            report=files / "report",
            golden=files / "golden.npz",
            split=files / "split.json",
            test_side="t1",
        )
    )


_TRIED = "tried"


def _weights(folder: Path) -> str:
    return str(read_json(folder / CARD)["weights_sha256"])


@dataclass
class FileBentos:
    """A bento store in which a bento is a file, that may be spoilt.

    Its lines are the model's weights and, once it was tried, that it was.
    """

    folder: Path
    spoilt: bool = False
    code: str = ""
    verified: list[str] = field(default_factory=list)

    def has(self, tag: str) -> bool:
        return (self.folder / tag).is_file()

    def is_whole(self, tag: str, folder: Path) -> bool:
        return self.has(tag) and self._lines(tag)[:1] == [_weights(folder)]

    def was_tried(self, tag: str) -> bool:
        return self.has(tag) and self._lines(tag)[1:] == [_TRIED]

    def _lines(self, tag: str) -> list[str]:
        return (self.folder / tag).read_text().split("\n")

    def build(self, version: Registered, folder: Path) -> str:
        tag = f"{version.name}.{version.version}{self.code}"
        if not self.is_whole(tag, folder):
            write_text(self.folder / tag, _weights(folder))
        return tag

    def verify(self, tag: str, folder: Path) -> str:
        if self.spoilt or not self.is_whole(tag, folder):
            raise ServiceError(f"{tag}: its probabilities differ")
        self.verified.append(tag)
        write_text(self.folder / tag, f"{_weights(folder)}\n{_TRIED}")
        return f"{len(read_golden(folder / 'golden.npz').images)} images"


@dataclass(frozen=True)
class Reports:
    """What promotion itself asks of `pipelines.dag.Dag`."""

    root: Path

    def out(self, recipe: str, stage: str, name: str = "") -> Path:
        return self.root / "reports" / recipe / name

    def data(self, recipe: str) -> Path:
        return self.root / "data" / recipe


@dataclass(frozen=True)
class Registry:
    """An MLflow store with versions of one recipe, and a bento store."""

    root: Path
    files: Path

    @property
    def bentos(self) -> FileBentos:
        return FileBentos(self.root / "bentos")

    @property
    def project(self) -> Project:
        params = Params.model_validate(tiny_params())
        return Project(self.root, Reports(self.root), params)  # type: ignore[arg-type]

    def enter(self) -> None:
        """Make it the store of this process."""
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.root / 'mlflow.db'}"

    def copy(self, root: Path) -> Registry:
        """The same in another folder; artifacts are shared, which nobody changes."""
        shutil.copytree(self.root / "bentos", root / "bentos")
        shutil.copyfile(self.root / "mlflow.db", root / "mlflow.db")
        return replace(self, root=root)

    def take_in(self, content: str, **more: Any) -> Any:
        made = registered(self.files, content)
        return promotion.take_in(
            self.project, RECIPE, made, more.pop("bentos", self.bentos), verdict(), METRICS, **more
        )

    def promote(self, **more: Any) -> promotion.Moved:
        return promotion.promote(self.project, RECIPE, more.pop("bentos", self.bentos), **more)

    def rollback(self, **more: Any) -> promotion.Moved:
        return promotion.rollback(self.root, RECIPE, more.pop("bentos", self.bentos), **more)

    def state(self) -> dict[str, Any]:
        """All that a promotion may change: aliases, tags, log, bentos."""
        client = mlflow.MlflowClient()
        (model,) = client.search_registered_models(f"name = '{NAME}'")
        versions = client.search_model_versions(f"name = '{NAME}'")
        return {
            "aliases": {alias: int(version) for alias, version in model.aliases.items()},
            "tags": {int(version.version): dict(version.tags) for version in versions},
            "log": [entry.dumps() for entry in ledger.read(NAME).entries],
            "bentos": sorted(path.name for path in (self.root / "bentos").iterdir()),
        }


def obedient_gate(failed: tuple[str, ...] = ()) -> Mapping[str, Callable[..., Any]]:
    """What to put in place of what `pipelines.promotion` asks of data and models."""
    return {
        "check_test_side": lambda *_: None,
        "whole_verdict": lambda *_: (verdict(*failed), METRICS),
    }


def die_at(step: str) -> Callable[[str], None]:
    """Tells nobody, and kills this process, as kill -9 does, when it hears of `step`."""

    def tell(words: str) -> None:
        if words.startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def killed(what: str, step: str, home: str, files: str, *which: str) -> None:
    """In a process of its own: `what` (promote, rollback, take_in), killed at `step`."""
    for name, stand_in in obedient_gate().items():
        setattr(promotion, name, stand_in)
    store = Registry(Path(home), Path(files))
    store.enter()
    os.chdir(home)
    getattr(store, what)(*which, tell=die_at(step))
    print(json.dumps({"survived": step}))
