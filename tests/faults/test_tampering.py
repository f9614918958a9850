"""What was exchanged is refused by its hash, with the file named; also where its time says nothing.

A tampered network in a model folder, in the registry's artifacts or in a bento: see docs/faults.md
for their tests elsewhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecgbeats.errors import ContractError
from pipelines import gating
from pipelines.dag import Dag, Stage, reproduce
from tests.faults.test_runs import Small
from tests.support.fault_report import Tried

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),
]


def flip(path: Path) -> None:
    """One bit, in place; size, inode and time stay."""
    before = path.stat()
    with path.open("r+b") as handle:
        handle.seek(before.st_size // 2)
        byte = handle.read(1)
        handle.seek(before.st_size // 2)
        handle.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A stage that makes a folder of two shards has run."""
    small = Small((tmp_path / "small").resolve())
    command = "mkdir images && head -c 4000 /dev/zero > images/s1.npy && echo 2 > images/s2.npy"
    stages = {"render": {"cmd": command, "outs": ["images"]}}
    (small.root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    monkeypatch.chdir(small.root)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    reproduce(small.root, Stage("render", ("images",), ""), lambda words: None)
    return small


def test_an_image_shard_that_was_tampered_with_is_named(drawn: Small, tried: Tried) -> None:
    stage, dag = Stage("render", ("images",), ""), Dag(drawn.root)
    dag.check_whole(stage)
    shard = drawn.root / "images/s1.npy"
    with tried("tampering: image shard"):
        flip(shard)
        # The reason for this check: DVC asks time, size and inode.
        assert dag.unchanged(stage)
        said = r"render: not as dvc.lock says, by MD5: images/s1\.npy\. Remove images and run"
        with pytest.raises(ContractError, match=said):
            dag.check_whole(stage)
        # So no promotion is judged on it.
        dag.plan = lambda recipe: (stage,)  # type: ignore[method-assign]
        with pytest.raises(ContractError, match=r"images/s1\.npy"):
            gating.check_test_side(dag, "tiny")
    with tried("tampering: image shard"):
        (drawn.root / "images/s2.npy").unlink()
        with pytest.raises(ContractError, match=r"images/s1\.npy, images/s2\.npy"):
            dag.check_whole(stage)


def test_a_run_learns_nothing_from_it(
    drawn: Small, monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    import logging

    from pipelines import retrain

    stages = (Stage("render", ("images",), ""), Stage("train", (), ""))
    real = Dag(drawn.root)
    dag = SimpleNamespace(
        plan=lambda recipe: stages,
        unchanged=lambda stage: stage.name == "render",
        check_whole=real.check_whole,
    )
    trained: list[str] = []
    monkeypatch.setattr(retrain, "get_run_logger", lambda: logging.getLogger("tests"))
    monkeypatch.setattr(retrain, "_train", lambda *_: trained.append("train"))
    run_stage = retrain._run_stage.fn
    run = retrain.Run("tiny")
    for stage in stages:
        run_stage(drawn.root, dag, None, run, stage)
    assert trained == ["train"] and run.checked == {"render"}
    with tried("tampering: image shard"):
        flip(drawn.root / "images/s1.npy")
        run = retrain.Run("tiny")
        run_stage(drawn.root, dag, None, run, stages[0])
        with pytest.raises(ContractError, match=r"images/s1\.npy"):
            run_stage(drawn.root, dag, None, run, stages[1])
        assert trained == ["train"]
