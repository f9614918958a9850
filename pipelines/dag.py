"""The one door to DVC: read its graph, run one stage of it, tell what a run was made of.

The DAG stands in dvc.yaml; nothing here restates it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import networkx as nx
import yaml

from ecgbeats import errors
from ecgbeats.errors import ConfigError, ContractError, EcgbeatsError, ServiceError
from ecgbeats.files import canonical_json, read_json, sha256_text
from pipelines import added
from pipelines.mending import keep_lock, lock_is_written

# The stage that every recipe ends with.
LAST = "verdict"
# Run with it, though it decides nothing: what the service's log is compared with.
_BESIDE = "reference"

# How a command of ours begins the line that says why it failed.
_OUR_ERRORS = frozenset(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, EcgbeatsError)
)


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml, for one recipe or dataset.

    Attributes
    ----------
    address : str
        As DVC names it, e.g. "train@mitdb-aami5".
    cmd : str
        Its command.
    outs : tuple of str
        Paths that it makes, relative to the project.
    """

    address: str
    outs: tuple[str, ...]
    cmd: str

    @property
    def name(self) -> str:
        return self.address.partition("@")[0]


class Dag:
    """DVC's graph of the project at `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._repo: Any = None
        self._read_of: object = None
        self._graph = self._now().index.graph

    def recipes(self) -> tuple[str, ...]:
        """The recipes that dvc.yaml can run."""
        found = (_address(node).partition("@") for node in self._graph)
        return tuple(sorted(recipe for name, _, recipe in found if name == LAST))

    def plan(self, recipe: str) -> tuple[Stage, ...]:
        """The stages of `recipe`, each after those it needs: to the verdict, and beside it."""
        return tuple(
            Stage(
                _address(node),
                tuple(self._relative(out.fs_path) for out in node.outs),
                str(node.cmd),
            )
            for node in self._nodes(recipe, beside=(_BESIDE,))
        )

    def out(self, recipe: str, stage: str, name: str | None = None) -> Path:
        """Path of what `stage` makes for `recipe`: its only output, or the one called `name`."""
        for planned in self.plan(recipe):
            if planned.name == stage:
                found = [path for path in planned.outs if name in (None, Path(path).name)]
                if len(found) == 1:
                    return self._root / found[0]
        raise ConfigError(f"dvc.yaml: expected one output {name or ''} of {stage}@{recipe}")

    def data(self, recipe: str) -> Path:
        """The dataset folder of `recipe`, additions included."""
        (stage,) = (stage for stage in self.plan(recipe) if stage.name == "render")
        return self.option(stage, "--raw")

    def option(self, stage: Stage, name: str) -> Path:
        """The path that the command of `stage` gives for the option `name`."""
        words = shlex.split(stage.cmd)
        if name not in words:
            raise ConfigError(f"dvc.yaml: expected {name} in the command of {stage.address}")
        return self._root / words[words.index(name) + 1]

    def unchanged(self, stage: Stage) -> bool:
        """Whether DVC would skip `stage`: inputs, parameters and outputs are as recorded.

        Raises
        ------
        ServiceError
            DVC cannot say, e.g. because another run holds its lock.
        """
        target = f"{self._root / 'dvc.yaml'}:{stage.address}"
        with _in_words(self._root, f"{stage.address}: "):
            return not self._now().status(targets=[target])

    def check_whole(self, stage: Stage) -> None:
        """Make sure that what `stage` made is what dvc.lock says, every file by its hash.

        `unchanged` does not: DVC hashes anew only what has another time, size or inode.

        Raises
        ------
        ContractError
            Naming the files that differ or are not there.
        """
        wrong = []
        for out in self._recorded().get(stage.address, {}).get("outs", ()):
            path, md5 = self._root / out["path"], str(out["md5"])
            expected = {path: md5}
            if md5.endswith(".dir"):
                listing = Path(self._now().cache.local.path) / md5[:2] / md5[2:]
                # Not in this machine's cache: there is nothing to hold the files against.
                rows = read_json(listing) if listing.is_file() else []
                expected = {path / row["relpath"]: row["md5"] for row in rows}
            wrong += [p for p, m in expected.items() if not p.is_file() or _md5(p) != m]
        if wrong:
            named = ", ".join(self._relative(str(path)) for path in wrong[:5])
            raise ContractError(
                f"{stage.address}: not as dvc.lock says, by MD5: {named}"
                + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
                + f". Remove {', '.join(stage.outs)} and run again: it is made anew"
            )

    def lock_entries(self, recipe: str) -> dict[str, Any]:
        """What dvc.lock records of the stages that lead to the verdict on `recipe`.

        Inputs, parameters, outputs and their hashes.
        """
        recorded = self._recorded()
        needed = [_address(node) for node in self._nodes(recipe)]
        missing = [address for address in needed if address not in recorded]
        if missing:
            raise ServiceError(f"dvc.lock: no record of {', '.join(missing)}; run them first")
        return {address: recorded[address] for address in needed}

    def _recorded(self) -> dict[str, Any]:
        path = self._root / "dvc.lock"
        return yaml.safe_load(path.read_text("utf-8"))["stages"] if path.is_file() else {}

    def _now(self) -> Any:
        """DVC's view of the project as it is now.

        It keeps what it has once read of these files; what it says of data it looks up anew. To
        open it takes about half a second, so it is opened again only when one of them changed.
        """
        files = [self._root / name for name in ("dvc.yaml", "dvc.lock", "params.yaml")]
        found = [path.stat() for path in files if path.is_file()]
        read_of = [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]
        if self._repo is None or read_of != self._read_of:
            self._repo, self._read_of = self._open(), read_of
        return self._repo

    def _open(self) -> Any:
        from dvc.repo import Repo

        with _in_words(self._root):
            repo = Repo(str(self._root))
            repo.index.check_graph()
        return repo

    def _nodes(self, recipe: str, beside: Sequence[str] = ()) -> list[Any]:
        by_address = {_address(node): node for node in self._graph}
        target = by_address.get(f"{LAST}@{recipe}")
        if target is None:
            raise ConfigError(
                f"recipe: expected one of {', '.join(self.recipes())}; got {recipe!r}"
            )
        # DVC's edges point from a stage to what it depends on.
        also = (f"{name}@{recipe}" for name in beside)
        targets = [target, *(by_address[each] for each in also if each in by_address)]
        found = {node for each in targets for node in (each, *nx.descendants(self._graph, each))}
        needed = self._graph.subgraph(found)
        order = nx.lexicographical_topological_sort(needed.reverse(copy=True), key=_address)
        # Data that were put under DVC as they are have a node and nothing to run.
        return [node for node in order if not node.is_data_source]

    def _relative(self, path: str) -> str:
        return Path(path).relative_to(self._root).as_posix()


def _address(node: Any) -> str:
    # That of a stage in dvc.yaml depends, as DVC gives it, on the working directory.
    return str(getattr(node, "name", None) or node.addressing)


@dataclass(frozen=True)
class Lineage:
    """What one run of a recipe was made of and made: hashes as DVC recorded them."""

    recipe: str
    content: str
    data: str
    images: str
    model: str

    @classmethod
    def of(cls, recipe: str, entries: Mapping[str, Any]) -> Lineage:
        """From `Dag.lock_entries`; `content` is a hash over all of them.

        Two runs have the same content exactly when every input, parameter and output of
        every stage, the code that the stages name included, was the same.
        """
        outs = {
            address.partition("@")[0]: entry["outs"][0]["md5"].removesuffix(".dir")
            for address, entry in entries.items()
        }
        content = sha256_text(canonical_json(entries))
        # Of several unions the last, which holds the others.
        data = outs.get("unite", outs["fetch"])
        return cls(recipe, content, data, outs["render"], outs["train"])


def cached_state(root: Path, digest: str) -> Literal["whole", "absent", "damaged"]:
    """Whether DVC's cache at `root` holds the folder of that hash, every file as its hash says.

    Parameters
    ----------
    digest : str
        MD5 of a folder, without its suffix ".dir".
    """
    from dvc.repo import Repo

    cache = Path(Repo(str(root)).cache.local.path)
    listing = cache / digest[:2] / f"{digest[2:]}.dir"
    if not listing.is_file():
        return "absent"
    if _md5(listing) != digest:
        return "damaged"
    files = [cache / md5[:2] / md5[2:] for md5 in (row["md5"] for row in read_json(listing))]
    if any(path.is_file() and _md5(path) != path.parent.name + path.name for path in files):
        return "damaged"
    return "whole" if all(path.is_file() for path in files) else "absent"


def track(root: Path, folder: Path) -> str:
    """Put `folder` under DVC, as it is now, beside a .dvc file; return the hash of the folder.

    Raises
    ------
    ServiceError
        DVC failed, e.g. because another run holds its lock.
    """
    from dvc.repo import Repo

    # It tells of commands for git, which the caller does in its own words.
    logger = logging.getLogger("dvc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with _in_words(root, f"{folder.name} could not be added: "):
            (stage,) = Repo(str(root)).add([str(folder)])
    finally:
        logger.setLevel(level)
    return str(stage.outs[0].hash_info.value).removesuffix(".dir")


def tracked_as_is(root: Path, folder: Path) -> bool:
    """Whether `folder` is under DVC by a .dvc file, and lies here as that says."""
    from dvc.repo import Repo

    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.is_file() or not folder.is_dir():
        return False
    with _in_words(root, f"{folder.name}: "):
        return not Repo(str(root)).status(targets=[str(pointer)])


def untrack(root: Path, folder: Path) -> None:
    """Remove `folder` and its .dvc file; what DVC's cache holds of it stays."""
    from dvc.repo import Repo

    with _in_words(root, f"{folder.name} could not be removed: "):
        Repo(str(root)).remove(f"{folder}.dvc", outs=True)


@contextmanager
def _in_words(root: Path, what: str = "") -> Iterator[None]:
    """DVC's errors as ours, and those that a .dvc file makes which was cut off."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise ServiceError(f"DVC: {what}{error}") from error
    except (LookupError, TypeError, AttributeError):
        # DVC does not say of which file: of ours it is the one that raises here.
        for name in added.names(root):
            added.find(root, name, unfinished=True)
        raise


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def reproduce(root: Path, stage: Stage, tell: Callable[[str], None]) -> None:
    """Run `stage` by `dvc repro --single-item`, passing on its output line by line.

    Raises
    ------
    ServiceError
        It failed; the message says why in the stage's own words, if it had any, else it ends
        with the last lines of the output.
    """
    keep_lock(root, stage.address)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage.address]
    last: list[str] = []
    with subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                line = raw.rstrip()
                if not line or _chatter(line):
                    continue
                last = [*last[-5:], line]
                tell(line)
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise ServiceError(f"stage {stage.address} failed:{_cause(last)}")
    lock_is_written(root)


def _end(process: subprocess.Popen[str]) -> None:
    """Stop DVC and the stage that it runs: a stage left behind would write under the next run."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def _cause(last: Sequence[str]) -> str:
    """From the last lines of a failed stage, those that say why."""
    said = [line for line in last if not line.startswith("ERROR: failed to reproduce")]
    for i, line in enumerate(said):
        if line.partition(": ")[0] in _OUR_ERRORS:
            return " " + "\n".join(said[i:])
    return "\n  ".join(["", *last])


def _chatter(line: str) -> bool:
    """Lines of DVC and TensorFlow that tell a reader nothing about the run."""
    starts: Sequence[str] = (
        "To track the changes",
        "git add",
        "To enable auto staging",
        "dvc config core.autostage",
        "Use `dvc push`",
        "Updating lock file",
        "Generating lock file",
        "WARNING: All log messages before absl",
    )
    text = line.strip()
    # glog's own format: severity letter, four digits, a clock.
    is_glog = len(text) > 5 and text[0] in "IWE" and text[1:5].isdigit() and text[5] == " "
    return text.startswith(tuple(starts)) or is_glog
