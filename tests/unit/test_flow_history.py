"""Prefect's own database: put aside where it is damaged, else left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipelines import flow_history

pytestmark = pytest.mark.unit


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of 50 kB, as a server that was killed leaves it: with its journal."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as made:
        made.execute("create table flow_run (name text)")
        made.executemany("insert into flow_run values (?)", [("x" * 500,)] * 100)
        made.commit()
    return tmp_path / "prefect.db"


@pytest.mark.parametrize("damage", ["cut", "none"])
def test_a_damaged_database_is_put_aside_with_a_word(
    database: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = database.read_bytes()[:20_000] if damage == "cut" else b"no database" * 99
    database.write_bytes(content)
    flow_history.mend()
    assert [path.name for path in database.parent.iterdir()] == ["prefect.db.damaged"]
    assert database.with_name("prefect.db.damaged").read_bytes() == content
    assert f"{database}: damaged; put aside" in capsys.readouterr().err


def test_a_sound_one_one_in_use_and_one_of_another_server_are_left_alone(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = database.read_bytes()
    flow_history.mend()
    with closing(sqlite3.connect(database)) as server:
        server.execute("pragma locking_mode = exclusive")
        server.execute("begin exclusive")
        monkeypatch.setattr(
            flow_history.sqlite3, "connect", lambda path, to=sqlite3.connect: to(path, timeout=0)
        )
        flow_history.mend()
    assert database.read_bytes() == content
    database.write_bytes(content[:20_000])
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    flow_history.mend()
    assert [path.name for path in database.parent.iterdir()] == ["prefect.db"]
