"""A model as a bento: built from the lock, versioned by what it holds, and tried out.

Nothing half-built is ever in the store: model and bento are built in a store of their own
beside it and moved over, each in one rename. Which bentos were tried, `pipelines.stored` knows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import requests
import yaml
from uv import find_uv_bin

from ecgbeats.errors import ConfigError, ContractError, DataError, ServiceError
from ecgbeats.files import (
    clear_workplaces,
    read_json,
    sha256_file,
    sha256_text,
    sha256_tree,
    workplace,
    write_json,
    write_text,
)
from ecgbeats.golden import Golden, read_golden
from ecgbeats.imaging.png import encode_png
from ecgbeats.inference import CARD, ONNX
from ecgbeats.labels import LabelScheme
from pipelines import loopback
from pipelines.dockerfile import DEPLOY, base_image
from pipelines.stored import BUNDLE, CONTENT, GOLDEN, is_whole, mark_tried

REQUIREMENTS = "requirements.txt"
# For the image. BentoML's own list cannot have hashes: it adds a line without one.
HASHED = "requirements-hashed.txt"
GOLDEN_BESIDE = "golden-beside.npz"
# Folder in bento/ of the model that the repository carries; it goes into its own bento alone.
CARRIED = "carried"

# The part of the library that the service imports, and no more.
_SERVED = (
    "__init__.py",
    "answering.py",
    "batches.py",
    "beats.py",
    "csv_table.py",
    "errors.py",
    "files.py",
    "inference.py",
    "labels.py",
    "likeness.py",
    "marks.py",
    "observation.py",
    "occlusion.py",
    "qrs.py",
    "records.py",
    "signal_text.py",
    "usable.py",
    "wfdb_bytes.py",
    "imaging/__init__.py",
    "imaging/composite.py",
    "imaging/features.py",
    "imaging/picture.py",
    "imaging/pixels.py",
    "imaging/plane.py",
    "imaging/png.py",
    "imaging/render.py",
    "imaging/scalogram.py",
    "imaging/spec.py",
    "imaging/spectrogram.py",
    "imaging/waveform.py",
    "imaging/wavelets.py",
)
# Of metrics.json, what the model's card in the bento has.
_OF_METRICS = (
    "dataset", "synthetic", "beats", "patients", "records", "headline", "accuracy",
    "accuracy_interval", "gross", "without_largest_patient", "calibration",
)  # fmt: skip

_STOPS_IN_S = 10.0
_POLL_S = 0.1
_LOG_LINES = 30
# Begins the name of a build's own store.
_BUILDING = ".building-"
# What the server logs when the service itself raises.
_GIVEN_UP = b"Application startup failed"
# Settings of the service, which whoever runs it made for others than us.
_SETTINGS = "ECGBEATS_"
_WORKERS = f"{_SETTINGS}WORKERS"
# Images in one request; the service takes at most 256.
_AT_ONCE = 64


@dataclass(frozen=True)
class BentoAbout:
    """What a bento is called, and where what it holds came from.

    Attributes
    ----------
    name, version : str
        Together the bento's tag, which BentoML writes in lower case.
    labels : mapping of str to str
        With at least "recipe" and "model_version".
    scheme : LabelScheme or None
        Which annotations the model's classes stand for; None if not known.
    metrics : mapping or None
        The content of the model's metrics.json.
    """

    name: str
    version: str
    labels: Mapping[str, str]
    scheme: LabelScheme | None = None
    metrics: Mapping[str, Any] | None = None

    @property
    def tag(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Source:
    """A registered model as it goes into a bento.

    Attributes
    ----------
    folder, golden : Path
        As of `build_bento`.
    """

    folder: Path
    golden: Path
    about: BentoAbout


@dataclass(frozen=True)
class Verified:
    """A bento that answered its golden batch as the offline model does."""

    tag: str
    images: int
    greatest_difference: float
    ready_s: float = field(compare=False)

    def __str__(self) -> str:
        return (
            f"{self.images} images, probabilities within {self.greatest_difference:.1e}, "
            f"ready after {self.ready_s:.1f} s"
        )


def build_bento(
    model_folder: Path,
    golden: Path,
    about: BentoAbout,
    *,
    project: Path,
    beside: Source | None = None,
) -> str:
    """Build the bento of a trained model in the store that BENTOML_HOME names.

    Parameters
    ----------
    model_folder : Path
        Holds model.json and model.onnx.
    golden : Path
        The golden batch; it goes into the bento, so that whoever runs it can check it.
    project : Path
        The checkout, for the service's code and the lock.
    beside : Source, optional
        A model for plain pictures.

    Returns
    -------
    str
        The bento's tag. A bento of that tag with the same labels and content is not
        built again; one that was damaged is replaced.

    Raises
    ------
    DataError
        Model or golden batch is not there.
    ContractError
        The golden batch is of another model's images or classes.
    ServiceError
        The store holds another bento of that tag, or BentoML or uv failed.
    """
    home = _home()
    about = replace(about, name=about.name.lower(), version=about.version.lower())
    _check(model_folder, read_golden(golden))
    if beside is not None:
        _check_beside(model_folder, beside)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-bento-") as scratch:
        context = Path(scratch) / "context"
        models = stage(context, model_folder, golden, about, project, beside)
        labels = {**about.labels, CONTENT: sha256_tree(context)}
        target = home / "bentos" / about.name / about.version
        if target.exists():
            _check_same(target, labels)
            if is_whole(target):
                return about.tag
        order = {
            "name": about.name,
            "version": about.version,
            "labels": labels,
            "description": _description(about),
            "context": str(context),
            "base_image": base_image(project),
            "models": {
                model: [str(folder.resolve() / name) for name in (CARD, ONNX)]
                for model, folder in models.items()
            },
        }
        home.mkdir(parents=True, exist_ok=True)
        # In the same file system as the store, so that moving is one rename.
        clear_unfinished(home)
        with workplace(home, _BUILDING) as building:
            script = Path(__file__).with_name("bento_build.py")
            _run(
                [sys.executable, "-P", str(script)],
                cwd=context,
                env={**_environment(), "BENTOML_HOME": str(building)},
                stdin=json.dumps(order),
            )
            for model, folder in models.items():
                keep = _holds_same(home.joinpath("models", *model.split(":")), folder)
                _move(building, home, "models", *model.split(":"), keep=keep)
            _move(building, home, "bentos", about.name, about.version)
    return about.tag


def clear_unfinished(home: Path) -> None:
    """Remove from a store what builds left there that were killed."""
    clear_workplaces(home, _BUILDING)


def packed_sha256(
    model_folder: Path,
    golden: Path,
    about: BentoAbout,
    *,
    project: Path,
    beside: Source | None = None,
) -> str:
    """Hash of all that `build_bento` would pack, but for the commit that it says it is of."""
    _check(model_folder, read_golden(golden))
    if beside is not None:
        beside = replace(beside, about=_without_commit(beside.about))
    with tempfile.TemporaryDirectory(prefix="ecgbeats-packed-") as scratch:
        context = Path(scratch) / "context"
        stage(context, model_folder, golden, _without_commit(about), project, beside)
        return sha256_tree(context)


def _without_commit(about: BentoAbout) -> BentoAbout:
    labels = {key: value for key, value in about.labels.items() if key != "git_commit"}
    return replace(about, labels=labels)


def has_bento(tag: str) -> bool:
    """Whether the store holds a bento of this tag."""
    return bento_folder(tag).exists()


def bento_folder(tag: str) -> Path:
    """Where the store keeps, or would keep, the bento of this tag."""
    return _home().joinpath("bentos", *tag.lower().split(":"))


def model_folder(tag: str) -> Path:
    """The same of a model."""
    return _home().joinpath("models", *tag.split(":"))


def stage(
    context: Path,
    model_folder: Path,
    golden: Path,
    about: BentoAbout,
    project: Path,
    beside: Source | None = None,
) -> dict[str, Path]:
    """Lay out in the new folder `context` all that the bento holds; return its models' tags.

    The folder is the root of its imports: `bento.service` and what it needs of `ecgbeats`.
    """
    shutil.copytree(project / "bento", context / "bento", ignore=_not_ours)
    for name in _SERVED:
        target = context / "ecgbeats" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project / "src" / "ecgbeats" / name, target)
    shutil.copyfile(project / "LICENSE", context / "LICENSE")
    shutil.copyfile(golden, context / GOLDEN)
    write_text(context / REQUIREMENTS, requirements(project))
    write_text(context / HASHED, requirements(project, hashed=True))
    entries = [_entry(model_folder, about)]
    models = {entries[0]["model"]: model_folder}
    if beside is not None:
        shutil.copyfile(beside.golden, context / GOLDEN_BESIDE)
        entries.append(_entry(beside.folder, beside.about))
        models[entries[1]["model"]] = beside.folder
    write_json(context / "bento" / BUNDLE, {"models": entries})
    return models


def _entry(folder: Path, about: BentoAbout) -> dict[str, Any]:
    """What bundle.json says of the model in `folder`."""
    content = sha256_text("".join(sha256_file(folder / name) for name in (CARD, ONNX)))
    return {
        "model": f"{about.name.lower()}:{content[:16]}",
        "card_sha256": sha256_file(folder / CARD),
        "card": _card(read_json(folder / CARD), about),
    }


def _card(model: Mapping[str, Any], about: BentoAbout) -> dict[str, Any]:
    """What `GET /model` says: `model` is the content of model.json."""
    scheme = about.scheme
    known = (
        scheme is not None and not scheme.of_folders and set(scheme.names) == {*model["classes"]}
    )
    named = ("name", "recipe", "model_version", CONTENT)
    return {
        "name": about.name,
        "version": about.labels["model_version"],
        "recipe": about.labels["recipe"],
        "classes": model["classes"],
        "labels": {**scheme.classes} if scheme is not None and known else None,
        "labels_source": scheme.source if scheme is not None else None,
        "abstain_below": model.get("answer", {}).get("abstain_below", 0.0),
        "spec_id": model["spec_id"],
        "image": model["image"],
        "network": {
            **model["model"],
            "parameters": model["parameters"],
            "weights_sha256": model["weights_sha256"],
            "onnx_sha256": model["onnx_sha256"],
        },
        # Without the names of records, which may tell who was recorded.
        "training": {k: v for k, v in model["training"].items() if k != "records"},
        "metrics": (
            None
            if about.metrics is None
            else {key: about.metrics[key] for key in _OF_METRICS if key in about.metrics}
        ),
        "lineage": {key: value for key, value in about.labels.items() if key not in named},
        "saliency": "occlusion (Zeiler and Fergus, ECCV 2014)",
    }


def verify_bento(
    tag: str,
    golden: Path,
    *,
    beside: Path | None = None,
    tolerance: float = 1e-5,
    patience_s: float = 120.0,
) -> Verified:
    """Start the built bento and hold its answers over HTTP against the offline ones.

    That it passed is remembered with the store.

    Parameters
    ----------
    beside : Path, optional
        The golden batch of the model for plain pictures.
    tolerance : float
        Greatest difference of a probability that is let pass.
    patience_s : float
        How long the bento may take to be ready.

    Raises
    ------
    ServiceError
        The bento does not start, refuses an image, or answers otherwise.
    """
    batches = [read_golden(path) for path in (golden, beside) if path is not None]
    with served(tag, patience_s=patience_s) as (url, ready_s):
        apart = max(
            float(np.abs(_ask(url, batch) - batch.probabilities).max()) for batch in batches
        )
    if not apart <= tolerance:
        raise ServiceError(
            f"{tag}: its probabilities differ from the offline ones by up to {apart:.1e}; "
            f"expected at most {tolerance:.0e}"
        )
    mark_tried(bento_folder(tag))
    return Verified(tag, sum(len(batch.images) for batch in batches), apart, ready_s)


def _ask(url: str, golden: Golden) -> np.ndarray:
    """Probabilities that the service at `url` gives for the images of `golden`."""
    rows: list[list[float]] = []
    with loopback.session() as session:
        for i in range(0, len(golden.images), _AT_ONCE):
            pngs = [encode_png(image, golden.spec_id) for image in golden.images[i : i + _AT_ONCE]]
            files = [("file", (f"{k}.png", png, "image/png")) for k, png in enumerate(pngs)]
            answer = session.post(f"{url}/classify", files=files, timeout=60)
            if answer.status_code != 200:
                raise ServiceError(
                    f"{url}/classify: expected 200 for the golden batch, "
                    f"got {answer.status_code}: {answer.text[:500]}"
                )
            for result in answer.json()["results"]:
                given = result["probabilities"]
                if tuple(given) != golden.classes:
                    raise ServiceError(
                        f"{url}/classify: expected classes {golden.classes}, got {tuple(given)}"
                    )
                rows.append(list(given.values()))
    if len(rows) != len(golden.images):
        raise ServiceError(
            f"{url}/classify: expected {len(golden.images)} results, got {len(rows)}"
        )
    return np.array(rows, np.float32)


@contextmanager
def served(tag: str, *, patience_s: float = 120.0, workers: int = 1) -> Iterator[tuple[str, float]]:
    """Serve a built bento on a free loopback port, and end it afterwards in any case.

    With no setting of the service but `workers`, and in a home of its own: BentoML empties the
    counters of the one that it starts in, which another service may be using.

    Yields
    ------
    url : str
    ready_s : float
        Seconds until it was ready.

    Raises
    ------
    ServiceError
        It does not start; with the last lines of its log.
    """
    port = loopback.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-P", "-m", "bentoml", "serve", tag]
    with tempfile.TemporaryDirectory(prefix="ecgbeats-serve-") as scratch:
        log, home = Path(scratch) / "log", Path(scratch) / "home"
        home.mkdir()
        for kind in ("bentos", "models"):
            (home / kind).symlink_to(_home() / kind, target_is_directory=True)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=scratch,
                env={**_environment(), "BENTOML_HOME": str(home), _WORKERS: str(workers)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            began = time.monotonic()
            _wait_until_ready(tag, url, process, log, patience_s)
            yield url, time.monotonic() - began
        finally:
            loopback.stop(process, _STOPS_IN_S)


def _wait_until_ready(
    tag: str, url: str, process: subprocess.Popen[bytes], log: Path, patience_s: float
) -> None:
    end = time.monotonic() + patience_s
    with loopback.session() as session:
        while time.monotonic() < end:
            # BentoML starts a failing worker anew for ever.
            if process.poll() is not None or _GIVEN_UP in log.read_bytes():
                raise ServiceError(f"{tag}: does not start; {_tail(log)}")
            try:
                if session.get(f"{url}/readyz", timeout=5).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(_POLL_S)
    raise ServiceError(f"{tag}: not ready after {patience_s:.0f} s; {_tail(log)}")


def _check(model_folder: Path, golden: Golden) -> None:
    for name in (CARD, ONNX):
        if not (model_folder / name).is_file():
            raise DataError(f"{model_folder}: expected {CARD} and {ONNX}; {name} is not there")
    card = read_json(model_folder / CARD)
    for key, ours in (("spec_id", golden.spec_id), ("classes", list(golden.classes))):
        if card[key] != ours:
            raise ContractError(
                f"golden batch: expected the {key} of {model_folder / CARD}, {card[key]!r}; "
                f"got {ours!r}"
            )


def _check_beside(model_folder: Path, beside: Source) -> None:
    _check(beside.folder, read_golden(beside.golden))
    ours, theirs = read_json(model_folder / CARD), read_json(beside.folder / CARD)
    if theirs["image"]["representation"] != "picture":
        raise ContractError(
            f"{beside.folder}: expected a model for plain pictures to go beside another, got one "
            f"for {theirs['image']['representation']} images"
        )
    if ours["spec_id"] == theirs["spec_id"]:
        raise ContractError(f"{beside.folder}: expected another spec than {ours['spec_id']}")


def _check_same(bento: Path, labels: Mapping[str, str]) -> None:
    """Raise unless the bento in the store is just the one that would be built now, or was."""
    try:
        stored = {**yaml.safe_load((bento / "bento.yaml").read_text(encoding="utf-8"))["labels"]}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return  # cut off, or gone
    differing = sorted(key for key in {*stored, *labels} if stored.get(key) != labels.get(key))
    if differing:
        raise ServiceError(
            f"{bento.parent.name}:{bento.name}: the store holds another bento of this tag; "
            + "; ".join(
                f"{key}: expected {labels.get(key)}, found {stored.get(key)}" for key in differing
            )
            + f". Remove it with: bentoml delete {bento.parent.name}:{bento.name}"
        )


def _holds_same(target: Path, folder: Path) -> bool:
    """Whether the model in the store is that of `folder`: bentos share it, and may be running."""
    return all(
        (target / name).is_file() and sha256_file(target / name) == sha256_file(folder / name)
        for name in (CARD, ONNX)
    )


def _move(
    source: Path, home: Path, kind: str, name: str, version: str, *, keep: bool = False
) -> None:
    """Move one finished item from one store to another and name it the latest there.

    One that is there already is replaced, unless it is to be kept.
    """
    target = home / kind / name / version
    target.parent.mkdir(parents=True, exist_ok=True)
    if not keep:
        if target.exists():
            # It is removed with the build's own store.
            os.replace(target, source / f"{kind}-{name}-replaced")
        os.replace(source / kind / name / version, target)
    write_text(target.parent / "latest", version)


def requirements(project: Path, *, hashed: bool = False) -> str:
    """The service's locked packages, as pip reads them; with the hashes of their files."""
    group = ["--only-group", "service"]
    form = ["--no-header", "--no-annotate", *([] if hashed else ["--no-hashes"])]
    return _run(
        [find_uv_bin(), "export", "--frozen", "--quiet", *group, *form],
        cwd=project,
        env=_environment(),
    )


def _description(about: BentoAbout) -> str:
    rows = "".join(f"| {key} | {value} |\n" for key, value in about.labels.items())
    return (
        f"# {about.tag}\n\n"
        "Classifies heartbeats from beat images (`POST /classify`) and from recordings "
        "(`POST /classify_record`, `POST /classify_signal`); a page at `/`. "
        "Not a medical device.\n\n"
        f"| | |\n|---|---|\n{rows}"
    )


def _home() -> Path:
    home = os.environ.get("BENTOML_HOME")
    if not home:
        raise ConfigError("BENTOML_HOME: expected the folder of the bento store; it is not set")
    return Path(home).resolve()


def _environment() -> dict[str, str]:
    """This process's, quiet, and without what could put other code before the bento's.

    Nor with settings of a service of ours elsewhere: here it is asked by us alone, and a limit
    that is narrower than the golden batch would fail the trial.
    """
    kept = {
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONPATH" and not key.startswith(_SETTINGS)
    }
    return {**kept, "BENTOML_DO_NOT_TRACK": "True"}


def _run(command: list[str], *, cwd: Path, env: dict[str, str], stdin: str = "") -> str:
    done = subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, text=True)
    if done.returncode:
        words = "\n".join((done.stderr or done.stdout).splitlines()[-_LOG_LINES:])
        raise ServiceError(f"{' '.join(command[:4])}: ended with {done.returncode}; {words}")
    return done.stdout


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return "the last lines of its log:\n" + "\n".join(lines)


def _not_ours(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("__pycache__", BUNDLE, CARRIED, DEPLOY)}
