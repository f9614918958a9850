"""A project in a folder of its own: the real DAG and code, a recipe that trains in seconds."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests
import yaml

HERE = Path(__file__).parents[2]
RECIPE = "tiny"

# What a clone holds of use to a run; tests, docs and what other runs made stay away.
_FILES = (".dvcignore", ".gitignore", "LICENSE", "README.md", "dvc.yaml", "pyproject.toml")
_FILES += ("uv.lock", ".dvc/config", ".dvc/.gitignore")
_FOLDERS = ("bento", "pipelines", "src")

# Settings of whoever runs the tests that would lead to their own servers and stores.
_THEIRS = ("BENTOML_", "DVC_", "ECGBEATS_", "GIT_", "MLFLOW_", "PREFECT_")


def tiny_params() -> dict[str, Any]:
    """The real label schemes; a minute of twelve patients; a network that learns in seconds.

    The gate lies between what the network reaches (over 0.95 both) and what a network that
    calls every beat normal does (0.88 and 0.47). So does the margin: four patients test.
    """
    real = yaml.safe_load((HERE / "params.yaml").read_text())["protocols"]
    split = {"by": "patient", "test_share": 0.34, "validation_share": 0.34, "seed": 1}
    gate = [
        {"metric": "accuracy", "at_least": 0.8},
        {"metric": "headline.macro_f1", "at_least": 0.7},
    ]
    return {
        "datasets": {
            "small": {"source": "sample", "patients": 12, "minutes": 1, "fs": 180, "seed": 7},
        },
        "protocols": {
            "patients": {
                "labels": real["aami5"]["labels"],
                "exclude_records": ["s004"],
                "patients_on_both_sides": [],
                "split": split,
                "gate": gate,
                "serving": [{"metric": "latency.one_ms", "at_most": 1000}],
                "no_regression": [{"metric": "headline.macro_f1", "margin": 0.3}],
            },
        },
        "recipes": {
            RECIPE: {
                "dataset": "small",
                "protocol": "patients",
                "image": {
                    "representation": "composite",
                    "panel_height": 16,
                    "width": 32,
                    "strip_height": 4,
                    "rhythm": "quantiles",
                },
                "model": {
                    "name": "compact",
                    "options": {
                        "filters": [8, 16],
                        "dense": 16,
                        "dropout": 0.1,
                        "along_time": True,
                        "told_by_rhythm": ["N", "S"],
                    },
                },
                "train": {
                    "seed": 1,
                    "epochs": 8,
                    "batch": 16,
                    "learning_rate": 0.01,
                    "class_balance": 0.5,
                    "patience": 8,
                },
                "answer": {"abstain_below": 0.0},
                "evaluate": {"headline": ["N", "V"], "bootstrap": 200},
            },
        },
    }


def without_their_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` as on a machine on which nobody has set up anything of ours."""
    return {key: value for key, value in environ.items() if not key.startswith(_THEIRS)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def healthy(url: str) -> bool:
    """Whether the server on loopback answers at `url`."""
    session = requests.Session()
    # A proxy for the outside world has no part in loopback.
    session.trust_env = False
    try:
        with session:
            return session.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


@dataclass(frozen=True)
class Project:
    """A checkout with a commit, in which commands run as a user would run them."""

    root: Path
    env: Mapping[str, str]

    @classmethod
    def create(cls, root: Path, params: Mapping[str, Any] | None = None) -> Project:
        """Lay out a clone with `params` in the new folder `root`, and commit it."""
        for name in _FILES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / name, root / name)
        for name in _FOLDERS:
            # With what is compiled: times of files are kept, so that it stays valid.
            shutil.copytree(HERE / name, root / name)
        env = without_their_settings(os.environ)
        scripts = str(Path(sys.executable).parent)
        env["PATH"] = os.pathsep.join([scripts, env.get("PATH", os.defpath)])
        # The code that runs is the code whose hash DVC takes.
        env["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root)])
        # Each command would compile that code anew.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env |= {"GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "true"}
        project = cls(root, env)
        project.write_params(params or tiny_params())
        project.call("git", "init", "--quiet", check=True)
        project.commit("first")
        return project

    @classmethod
    def create_after(cls, done: Project, root: Path, params: Mapping[str, Any]) -> Project:
        """A new project with `params` in which all that ran in `done` has run already."""
        project = cls.create(root, params)
        for name in ("data", "reports", ".dvc/cache"):
            shutil.copytree(done.root / name, root / name, dirs_exist_ok=True)
        shutil.copyfile(done.root / "dvc.lock", root / "dvc.lock")
        return project

    def with_prefect(self, api: str) -> Project:
        """The same project, for commands whose flows are kept by the server at `api`."""
        return replace(self, env={**self.env, "PREFECT_API_URL": api})

    @property
    def params(self) -> dict[str, Any]:
        """The content of params.yaml, to be changed and written back."""
        values: dict[str, Any] = yaml.safe_load((self.root / "params.yaml").read_text())
        return values

    def write_params(self, params: Mapping[str, Any]) -> None:
        text = yaml.safe_dump(copy.deepcopy(dict(params)), sort_keys=False)
        (self.root / "params.yaml").write_text(text)

    def commit(self, message: str) -> str:
        """Commit everything that git does not ignore; return the commit."""
        identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
        self.call("git", "add", "--all", check=True)
        self.call("git", *identity, "commit", "--quiet", "--message", message, check=True)
        return self.call("git", "rev-parse", "HEAD", check=True).stdout.strip()

    def call(
        self, *command: str, check: bool = False, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` in the project; keyword arguments go to its environment."""
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
            check=check,
        )

    def lock(self) -> dict[str, Any]:
        """The stages in dvc.lock."""
        values: dict[str, Any] = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"]
        return values
