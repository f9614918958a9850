"""Stages that are killed, run out of disk, or lose a file: then run again, to the same bytes."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ecgbeats.files import sha256_file
from tests.support.fault_report import Tried
from tests.support.projects import HERE, RECIPE, tiny_params, without_their_settings
from tests.support.stage_server import HEAVY, LIGHT, StageServer, commands

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1800)]

# Of these some run in a second or two, and are tried in `make test`.
QUICK = ("fetch", "render")
ALL = ("fetch", "validate", "render", "split", "train", "evaluate", "verdict", "reference")
THREADS = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Reference:
    """A recipe that was run stage by stage, nothing injected.

    Attributes
    ----------
    events : dict of str to int
        File operations of each stage.
    """

    root: Path
    server: StageServer
    words: dict[str, list[str]]
    events: dict[str, int]

    def until(self, stage: str, root: Path) -> Path:
        """A copy in the folder `root` in which all stages before `stage` have run."""
        lay_out(root)
        made = {name for each in ALL[: ALL.index(stage)] for name in outs(each)}
        for name in made & files(self.root).keys():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / name, root / name)
        return root


def params() -> dict[str, Any]:
    """A recipe that is through in half a minute, whose gate is no hindrance."""
    made = tiny_params()
    made["datasets"]["small"] |= {"patients": 8, "minutes": 0.6}
    made["protocols"]["patients"]["gate"] = [{"metric": "accuracy", "at_least": 0.1}]
    made["recipes"][RECIPE]["train"]["epochs"] = 3
    made["recipes"][RECIPE]["evaluate"]["bootstrap"] = 100
    return made


def lay_out(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params(), sort_keys=False))
    shutil.copyfile(HERE / "dvc.yaml", root / "dvc.yaml")


def files(root: Path) -> dict[str, str]:
    """Hash of each file under its final name; pages with times in them do not count."""
    return {
        path.relative_to(root).as_posix(): sha256_file(path)
        for top in ("data", "reports")
        for path in (root / top).rglob("*")
        if path.is_file()
        and not path.name.startswith(".")
        and not {"data_docs", "checkpoints"} & set(path.relative_to(root).parts)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


_MADE: dict[str, set[str]] = {}


def outs(stage: str) -> set[str]:
    """Names of the files that `stage` made in the reference."""
    return _MADE[stage]


def reference_in(root: Path, preload: tuple[str, ...], stages: tuple[str, ...]) -> Reference:
    lay_out(root)
    server = StageServer({**without_their_settings(os.environ), **THREADS}, preload)
    words, events = commands(root, RECIPE), {}
    before: set[str] = set()
    for stage in stages:
        ended = server.run(root, words[stage])
        assert ended.status == 0, ended.said[-3000:]
        events[stage] = ended.events
        now = set(files(root))
        _MADE[stage], before = now - before, now
    return Reference(root, server, words, events)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    found = reference_in(tmp_path_factory.mktemp("quick"), LIGHT, ("fetch",))
    # Render needs nothing of validate's here, which takes Great Expectations seconds.
    words, root = found.words, found.root
    ended = found.server.run(root, words["render"])
    assert ended.status == 0, ended.said[-3000:]
    _MADE["render"] = set(files(root)) - _MADE["fetch"]
    found.events["render"] = ended.events
    _MADE.setdefault("validate", set())
    with found.server:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    found = reference_in(tmp_path_factory.mktemp("whole"), HEAVY, ALL)
    with found.server:
        yield found


def check_names(root: Path, reference: Reference) -> None:
    """Whatever has its final name is whole."""
    right = files(reference.root)
    wrong = [name for name, digest in files(root).items() if right.get(name) != digest]
    assert not wrong


def kill_often(
    reference: Reference, stage: str, root: Path, often: int, seed: int, tried: Tried
) -> int:
    """Kill `stage` at `often` of its file operations, one run after the other; then let it end.

    Returns how many of the kills came before its end.
    """
    root = reference.until(stage, root)
    chance = random.Random(f"{seed} {stage}")
    last = reference.events[stage]
    moments = sorted(chance.sample(range(1, last + 1), min(often, last)), reverse=True)
    print(f"seed {seed}, {stage}: killed before file operations {moments} of {last}")
    said, deaths = "", 0
    for moment in moments:
        with tried(f"kill: {stage}") as fault:
            ended = reference.server.run(root, reference.words[stage], kill_at=moment)
            # What an earlier, killed run has done needs no operation again.
            assert ended.status in (-9, 0), ended.said[-3000:]
            fault.met = ended.status == -9
            deaths += fault.met
            check_names(root, reference)
            said = ended.said
    ended = reference.server.run(root, reference.words[stage])
    assert ended.status == 0, said[-1000:] + ended.said[-3000:]
    check_names(root, reference)
    assert reference.root is not root and set(files(root)) >= outs(stage)
    left = [p for top in ("data", "reports") for p in (root / top).rglob(".*.partial*")]
    assert not left
    return deaths


@pytest.mark.parametrize("stage", QUICK)
def test_a_quick_stage_that_was_killed_ends_in_the_same_bytes(
    stage: str, quick: Reference, tmp_path: Path, seed: int, tried: Tried
) -> None:
    assert kill_often(quick, stage, tmp_path / "killed", 3, seed, tried), "nothing was killed"


@pytest.mark.faults
@pytest.mark.parametrize("stage", ALL)
def test_a_stage_that_was_killed_ends_in_the_same_bytes(
    stage: str, whole: Reference, tmp_path: Path, often: int, seed: int, tried: Tried
) -> None:
    assert kill_often(whole, stage, tmp_path / "killed", often, seed, tried), "nothing was killed"


@pytest.mark.faults
def test_a_killed_training_goes_on_from_its_checkpoint(
    whole: Reference, tmp_path: Path, tried: Tried
) -> None:
    root = whole.until("train", tmp_path / "killed")
    with tried("kill: train"):
        # After the first epochs, before the export.
        ended = whole.server.run(root, whole.words["train"], kill_at=whole.events["train"] // 2)
        assert ended.status == -9
        ended = whole.server.run(root, whole.words["train"])
        assert ended.status == 0 and "train: going on after " in ended.said, ended.said[-2000:]
        assert "select, epoch 1/3" not in ended.said
        check_names(root, whole)


def out_of_room(reference: Reference, stage: str, root: Path, tried: Tried) -> None:
    """No file may be as large as the largest that `stage` makes."""
    root = reference.until(stage, root)
    largest = max((reference.root / name).stat().st_size for name in outs(stage))
    with tried(f"no room: {stage}"):
        ended = reference.server.run(root, reference.words[stage], largest=largest // 2)
        assert ended.status == 2, ended.said[-3000:]
        # Great Expectations has its own to say before.
        assert ended.said.splitlines()[-1].startswith("StorageError: "), ended.said[-3000:]
        check_names(root, reference)
        assert reference.server.run(root, reference.words[stage]).status == 0
        check_names(root, reference)


@pytest.mark.parametrize("stage", QUICK)
def test_a_quick_stage_without_room_says_so(
    stage: str, quick: Reference, tmp_path: Path, tried: Tried
) -> None:
    out_of_room(quick, stage, tmp_path / "full", tried)


@pytest.mark.faults
@pytest.mark.parametrize("stage", ["validate", "split", "train", "evaluate", "reference"])
def test_a_stage_without_room_says_so(
    stage: str, whole: Reference, tmp_path: Path, tried: Tried
) -> None:
    out_of_room(whole, stage, tmp_path / "full", tried)


def lose(reference: Reference, stage: str, lost: str, root: Path, tried: Tried) -> None:
    """A file that `stage` reads goes when it has begun to write."""
    root = reference.until(stage, root)
    with tried(f"removed file: {stage}"):
        ended = reference.server.run(root, reference.words[stage], remove=(1, root / lost))
        assert ended.status == 2, ended.said[-3000:]
        assert Path(lost).stem in ended.said and "Traceback" not in ended.said, ended.said[-3000:]
        check_names(root, reference)
        shutil.copyfile(reference.root / lost, root / lost)
        assert reference.server.run(root, reference.words[stage]).status == 0
        check_names(root, reference)


@pytest.mark.parametrize("suffix", ["dat", "atr"])
def test_a_recording_that_goes_while_it_is_drawn_is_named(
    suffix: str, quick: Reference, tmp_path: Path, tried: Tried
) -> None:
    lose(quick, "render", f"data/raw/small/s006.{suffix}", tmp_path / "lost", tried)
