"""Who is champion: all or nothing, in aliases, tags, log and bento; also when killed."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from ecgbeats.errors import ConfigError, ContractError, GateFailed, ServiceError
from ecgbeats.files import write_json
from pipelines import deployments, ledger, promotion, promotion_cli, registry
from pipelines.decisions import rival_of
from pipelines.promotion_log import next_entry
from pipelines.standing import in_words, standing
from tests.support.promoting import (
    NAME,
    RECIPE,
    FileBentos,
    Registry,
    killed,
    obedient_gate,
    registered,
    verdict,
    write_evidence,
)
from tests.support.servers import mlflow_server

pytestmark = pytest.mark.pipeline

# What MLflow imports when it is first asked: seconds.
MLFLOW = [
    "alembic.command",
    "mlflow.store.db.utils",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "onnxruntime",
]
PROMOTE = (
    "gate",
    "bento",
    "bento built",
    "bento answers",
    "verdict kept",
    "deciding",
    "decided",
    "tag promotion",
    "tag bento",
    "alias previous",
    "alias challenger",
    "alias champion",
    "applied",
)
ROLLBACK = (
    "answers as it did",
    "bento answers",
    "deciding",
    "decided",
    "tag promotion",
    "alias previous",
    "alias champion",
    "applied",
)
FIRST = (
    f"{NAME}.1: answers as offline",
    "verdict kept",
    "deciding",
    "decided",
    "tag promotion",
    "tag bento",
    "alias champion",
    "applied",
)
CHALLENGE = (
    "verdict kept",
    "deciding",
    "decided",
    "tag promotion",
    "alias challenger",
    "applied",
    f"{NAME}.1: built and checked before",
)


@pytest.fixture(scope="module", autouse=True)
def clean() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "set by each test")
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Version 1 is champion, version 2 challenger, version 3 approved before there was more."""
    root = tmp_path_factory.mktemp("registry")
    made = Registry(root, write_evidence(root / "evidence"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made.enter()
        # Making its tables takes seconds.
        mlflow.MlflowClient().search_experiments()
        shutil.copyfile(root / "mlflow.db", root / "empty.db")
        made.take_in("c1")
        made.take_in("c2")
        registered(made.files, "c3")
    return made


@pytest.fixture
def store(template: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A copy of it, with a gate that lets everything pass."""
    made = template.copy(tmp_path)
    made.enter()
    monkeypatch.chdir(tmp_path)
    for name, stand_in in obedient_gate().items():
        monkeypatch.setattr(promotion, name, stand_in)
    return made


def fail_gate(monkeypatch: pytest.MonkeyPatch, *failed: str) -> None:
    for name, stand_in in obedient_gate(failed).items():
        monkeypatch.setattr(promotion, name, stand_in)


def agree(store: Registry) -> None:
    """Log, aliases and tags say the same, and the champion's bento is there."""
    log = ledger.settle(NAME)
    assert ledger.differences(NAME, log) == []
    assert log.last is not None and log.last.bento is not None
    assert store.bentos.has(log.last.bento)
    champion = mlflow.MlflowClient().get_model_version_by_alias(NAME, "champion")
    assert champion.tags["bento"] == log.last.bento
    assert int(champion.version) == log.holder("champion")


def test_the_first_that_passes_is_champion_and_later_ones_are_challengers(store: Registry) -> None:
    assert store.state()["aliases"] == {"champion": 1, "challenger": 2}
    first, second = ledger.read(NAME).entries
    assert (first.action, first.version, first.bento) == ("promote", 1, f"{NAME}.1")
    assert (second.action, second.version, second.bento) == ("challenge", 2, f"{NAME}.1")
    assert first.reason == "the first that passed the gate"
    agree(store)
    # Registered and taken in again, nothing changes.
    before = store.state()
    store.take_in("c2")
    store.take_in("c1")
    assert store.state() == before


def test_no_first_champion_without_a_bento_that_answers(
    template: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Registry(tmp_path, template.files)
    shutil.copyfile(template.root / "empty.db", tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    empty.enter()
    with pytest.raises(ServiceError, match="differ"):
        empty.take_in("c1", bentos=FileBentos(empty.root / "bentos", spoilt=True))
    assert registry.champion("tiny") is None and empty.state()["log"] == []
    # The next run goes on from there.
    empty.take_in("c1")
    assert empty.state()["aliases"] == {"champion": 1}


def test_promotion_moves_all_of_it(store: Registry) -> None:
    moved = store.promote(by="Ada", reason="better on V")
    assert store.state()["aliases"] == {"champion": 2, "previous": 1}
    entry = ledger.read(NAME).last
    assert entry == moved.entry and entry is not None
    assert (entry.action, entry.version, entry.by, entry.reason) == (
        "promote",
        2,
        "Ada",
        "better on V",
    )
    assert entry.facts["data_hash"] == "d-c2" and entry.facts["verdict"]["passed"] is True
    kept = mlflow.artifacts.load_dict(
        f"runs:/{registry.version_of(NAME, 2).run_id}/"
        f"{entry.facts['verdict']['artifacts']}/verdict.json"
    )
    assert kept["passed"] is True
    agree(store)
    assert store.promote(version=2).entry is None
    assert len(ledger.read(NAME).entries) == 3


def test_a_gate_that_says_no_changes_nothing(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_gate(monkeypatch, "champion.headline.macro_f1")
    before = store.state()
    for half in ({}, {"by": "Ada"}, {"reason": "urgent"}, {"by": "Ada", "reason": " "}):
        with pytest.raises(GateFailed, match=r"champion\.headline\.macro_f1.*--by and --reason"):
            store.promote(**half)
    assert store.state() == before
    assert (store.root / "reports/tiny/promotion/verdict.xml").is_file()


def test_overruling_the_gate_shows_for_ever(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_gate(monkeypatch, "champion.headline.macro_f1")
    store.promote(by="Ada", reason="the champion saw the test set")
    fail_gate(monkeypatch)
    store.promote(version=3)
    store.rollback()
    tags = store.state()["tags"][2]
    assert tags["override.000003"].startswith("champion.headline.macro_f1 overruled by Ada on 20")
    assert tags["override.000003"].endswith(": the champion saw the test set")
    (overridden,) = standing(NAME)["champion"]["overridden"]
    assert overridden["checks"] == ["champion.headline.macro_f1"]
    assert "OVERRULED: champion.headline.macro_f1, by Ada on" in in_words(standing(NAME))


def test_a_bento_that_answers_otherwise_changes_nothing(store: Registry) -> None:
    before = store.state()
    with pytest.raises(ServiceError, match="differ"):
        store.promote(bentos=FileBentos(store.root / "bentos", spoilt=True))
    after = store.state()
    # A built bento is no champion's.
    assert {**after, "bentos": []} == {**before, "bentos": []}
    agree(store)


def test_rollback_tries_the_former_champion_out_first(store: Registry) -> None:
    store.promote()
    store.promote(version=3)
    assert store.state()["aliases"] == {"champion": 3, "previous": 2}
    before = store.state()
    with pytest.raises(ServiceError, match="differ"):
        store.rollback(bentos=FileBentos(store.root / "bentos", spoilt=True))
    assert store.state() == before
    bentos = store.bentos
    store.rollback(bentos=bentos, by="Ada", reason="alarms")
    assert bentos.verified == [f"{NAME}.2"]
    assert store.state()["aliases"] == {"champion": 2, "previous": 1}
    agree(store)
    # Again: not to the version that was rolled back from, but one further.
    store.rollback()
    assert store.state()["aliases"] == {"champion": 1}
    with pytest.raises(ConfigError, match="version 1 is the first"):
        store.rollback()
    actions = [entry.action for entry in ledger.read(NAME).entries]
    assert actions == ["promote", "challenge", "promote", "promote", "rollback", "rollback"]


@pytest.mark.parametrize(
    ("version", "after"),
    [
        (1, {"champion": 3, "previous": 2}),
        (2, {"champion": 3, "previous": 1}),
        (4, {"champion": 3, "previous": 2}),
    ],
    ids=["previous", "champion", "challenger"],
)
def test_a_version_that_was_deleted_stands_in_nobodys_way(
    store: Registry, version: int, after: dict[str, int]
) -> None:
    store.promote()
    store.take_in("c4")
    assert store.state()["aliases"] == {"champion": 2, "previous": 1, "challenger": 4}
    mlflow.MlflowClient().delete_model_version(NAME, str(version))
    if version == 2:
        # No longer served, no longer compared with; both are said.
        with pytest.raises(ContractError, match=r"its champion, version 2, was deleted"):
            registry.champion("tiny")
        assert "version 2 was deleted from the registry" in in_words(standing(NAME))
        rival = promotion.rival_of(ledger.settle(NAME), store.root)
        assert rival is not None and not rival.model.exists()
    else:
        agree(store)
        assert version not in store.state()["aliases"].values()
    store.promote(version=3)
    held = store.state()["aliases"]
    assert {alias: held.get(alias) for alias in after} == after
    assert version not in held.values()
    agree(store)
    store.rollback()
    agree(store)
    assert store.state()["aliases"]["champion"] == after["previous"]


def test_a_deleted_champion_can_be_rolled_back_from(store: Registry) -> None:
    store.promote()
    mlflow.MlflowClient().delete_model_version(NAME, "2")
    store.rollback()
    assert store.state()["aliases"] == {"champion": 1}
    agree(store)


def test_a_model_begun_anew_begins_a_log(store: Registry) -> None:
    mlflow.MlflowClient().delete_registered_model(NAME)
    store.take_in("c9")
    (entry,) = ledger.read(NAME).entries
    assert (entry.action, entry.version) == ("promote", 1)
    assert entry.facts["data_hash"] == "d-c9"
    agree(store)


def test_a_former_champion_without_its_bento_here_gets_one(store: Registry) -> None:
    store.promote()
    (store.root / "bentos" / f"{NAME}.1").unlink()
    bentos = store.bentos
    store.rollback(bentos=bentos)
    assert (store.root / "bentos" / f"{NAME}.1").is_file()
    assert bentos.verified == [f"{NAME}.1"]
    assert store.state()["aliases"] == {"champion": 1}
    agree(store)


def test_a_bento_that_failed_its_trial_is_tried_again(store: Registry) -> None:
    (store.root / "bentos" / f"{NAME}.1").unlink()
    before = store.state()
    for _ in range(2):
        with pytest.raises(ServiceError, match="differ"):
            store.take_in("c1", bentos=FileBentos(store.root / "bentos", spoilt=True))
    bentos = store.bentos
    for _ in range(2):
        store.take_in("c1", bentos=bentos)
    assert bentos.verified == [f"{NAME}.1"]
    assert store.state()["log"] == before["log"]


@pytest.mark.parametrize("what", ["take_in", "rollback"])
def test_a_damaged_bento_is_made_anew_and_tried(store: Registry, what: str) -> None:
    if what == "rollback":
        store.promote()
    (store.root / "bentos" / f"{NAME}.1").write_text("cut off\ntried")
    bentos = store.bentos
    getattr(store, what)(*(["c1"] if what == "take_in" else []), bentos=bentos)
    assert bentos.verified == [f"{NAME}.1"]
    assert not (store.root / "bentos" / f"{NAME}.1").read_text().startswith("cut off")
    agree(store)


def redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The renderer changes: models of before take images that it draws no more."""
    monkeypatch.setattr("ecgbeats.imaging.spec.RENDERER_VERSION", 4711)


def test_a_former_champion_of_an_older_renderer_is_served_by_its_own_bento(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.promote()
    redrawn(monkeypatch)
    bentos = store.bentos
    store.rollback(bentos=bentos)
    assert bentos.verified == [f"{NAME}.1"]
    assert store.state()["aliases"] == {"champion": 1}
    agree(store)


def test_a_champion_of_an_older_renderer_stays_in_its_bento(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    redrawn(monkeypatch)
    # Today's service would refuse its images.
    entry = store.take_in("c4", bentos=FileBentos(store.root / "bentos", spoilt=True, code=".b"))
    assert (entry.action, entry.version, entry.bento) == ("challenge", 4, f"{NAME}.1")
    agree(store)


def test_the_champions_bento_is_made_anew_only_where_another_is_packed(store: Registry) -> None:
    before = store.state()["log"]
    (store.root / "bentos" / f"{NAME}.1").unlink()
    store.take_in("c2")
    assert store.state()["log"] == before
    agree(store)
    entry = store.take_in("c2", bentos=FileBentos(store.root / "bentos", code=".b"))
    assert (entry.action, entry.version, entry.bento) == ("package", 1, f"{NAME}.1.b")
    assert entry.reason.startswith(f"what is packed is another than in {NAME}.1: ")
    agree(store)


def test_status_of_a_day_is_what_was_then(store: Registry) -> None:
    store.promote()
    first, _, third = ledger.read(NAME).entries
    times = [datetime.fromisoformat(entry.time) for entry in (first, third)]
    step = timedelta(milliseconds=1)
    found = [standing(NAME, on=when - step)["champion"] for when in times]
    assert found[0] is None and found[1]["version"] == 1
    now = standing(NAME)
    assert (now["champion"]["version"], now["previous"], now["challenger"]) == (2, 1, None)
    assert now["champion"]["since"] == third.time and now["champion"]["data_hash"] == "d-c2"
    assert standing("ecgbeats-nobody")["champion"] is None
    here = in_words(standing(NAME, has_bento=store.bentos.has))
    (store.root / "bentos" / f"{NAME}.2").unlink()
    gone = in_words(standing(NAME, has_bento=store.bentos.has))
    assert gone == here.replace(
        f"bento: {NAME}.2", f"bento: {NAME}.2 (not in this machine's store)"
    )


def test_an_alias_moved_by_hand_shows_and_promotion_sets_it_right(store: Registry) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(NAME, "champion", "3")
    wrong = "champion is version 3, the log says version 1"
    for ask in (lambda: registry.champion("tiny"), lambda: registry.find(f"{NAME}@champion")):
        with pytest.raises(ContractError, match=wrong):
            ask()
    assert f"NOT AS THE LOG SAYS: {wrong}" in in_words(standing(NAME))
    store.promote(version=2)
    assert store.state()["aliases"] == {"champion": 2, "previous": 1}
    agree(store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            'update params set value = replace(value, \'"by":"\', \'"by":"not \') '
            "where key = 'entry.000002'",
            "entry 2 was changed",
        ),
        ("delete from params where key = 'entry.000001'", "expected entry 1"),
        (
            "update params set value = substr(value, 1, 99) where key = 'entry.000001'",
            "entry.000001 was changed: expected JSON",
        ),
        ("update params set value = '4' where key = 'entry.000001'", "expected an entry, got 4"),
        ("delete from params where key like '%.000002'", "version 2 bears promotion.000002"),
        (
            "update registered_model_tags set key = 'gone' where key = 'ecgbeats.promotion_log'",
            "of it",
        ),
        (
            "update runs set lifecycle_stage = 'deleted' where name = 'ecgbeats-tiny'",
            "runs restore",
        ),
    ],
)
def test_a_log_that_was_tampered_with_is_not_believed(
    store: Registry, change: str, said: str
) -> None:
    with sqlite3.connect(store.root / "mlflow.db") as database:
        assert database.execute(change).rowcount
    for ask in (lambda: standing(NAME), lambda: registry.champion("tiny"), store.promote):
        with pytest.raises((ContractError, ServiceError), match=said):
            ask()


def test_of_two_that_decide_at_the_same_time_one_is_told(store: Registry) -> None:
    stale = ledger.open_for_change(NAME)
    store.promote(by="Ada")
    before = store.state()
    late = next_entry(stale.entries, "promote", 3, by="Bob", reason="", bento=f"{NAME}.3")
    with pytest.raises(ServiceError, match="changed meanwhile: entry 3, promote version 2 by Ada"):
        ledger.append(stale, late)
    assert store.state() == before


@pytest.fixture(scope="module")
def server(template: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an MLflow server with nothing in it, as several machines would share one."""
    root = tmp_path_factory.mktemp("server")
    shutil.copyfile(template.root / "empty.db", root / "mlflow.db")
    with mlflow_server(f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts"), root) as url:
        yield url


def test_a_server_keeps_one_log_for_all(
    template: Registry, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fail_gate(monkeypatch)
    here = Registry(tmp_path / "here", template.files)
    here.take_in("c1")
    here.take_in("c2")
    stale = ledger.open_for_change(NAME)
    here.promote(by="Ada", reason="é – ✓")
    late = next_entry(stale.entries, "promote", 1, by="Bob", reason="", bento=None)
    with pytest.raises(ServiceError, match="changed meanwhile: entry 3, promote version 2 by Ada"):
        ledger.append(stale, late)
    agree(here)
    # On another machine, whose bento store is empty.
    there = Registry(tmp_path / "there", template.files)
    there.rollback()
    agree(there)
    assert there.state()["aliases"] == {"champion": 1}
    assert [entry.reason for entry in ledger.read(NAME).entries][2] == "é – ✓"


def test_aliases_older_than_the_log_are_its_first_entry(store: Registry) -> None:
    with sqlite3.connect(store.root / "mlflow.db") as database:
        database.execute("delete from params where key like 'entry.%' or key like 'applied.%'")
        database.execute("delete from registered_model_tags where key = 'ecgbeats.promotion_log'")
        database.execute("delete from model_version_tags where key like 'promotion.%'")
    # Whoever looks first; what serves and what judges must know it, not promotion alone.
    found = registry.champion("tiny")
    assert found is not None and found.version == 1
    champion = standing(NAME)["champion"]
    assert (champion["version"], champion["action"]) == (1, "adopt")
    assert (champion["data_hash"], champion["macro_f1"]) == ("d-c1", 0.8)
    store.take_in("c3")
    assert store.state()["aliases"] == {"champion": 1, "challenger": 3}
    store.promote(version=2)
    actions = [(entry.action, entry.version) for entry in ledger.read(NAME).entries]
    assert actions == [("adopt", 1), ("challenge", 3), ("promote", 2)]
    agree(store)


def test_a_decision_whose_answer_was_lost_is_a_decision(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_param = mlflow.MlflowClient.log_param

    def lost(client: mlflow.MlflowClient, run_id: str, key: str, value: str) -> None:
        log_param(client, run_id, key, value)
        if key.startswith("entry."):
            raise MlflowException("read timed out")

    monkeypatch.setattr(mlflow.MlflowClient, "log_param", lost)
    moved = store.promote(by="Ada")
    assert moved.entry is not None and (moved.entry.number, moved.entry.by) == (3, "Ada")
    assert store.state()["aliases"] == {"champion": 2, "previous": 1}
    agree(store)


def test_an_artifact_store_that_fails_is_not_the_gates_no(
    store: Registry,
) -> None:
    with sqlite3.connect(store.root / "mlflow.db") as database:
        database.execute("update runs set artifact_uri = artifact_uri || '-moved'")
    before = store.state()
    for ask in (store.promote, lambda: registry.fetch_report(registry.version_of(NAME, 1), Path())):
        with pytest.raises(ServiceError, match="MLflow: ") as caught:
            ask()
        assert caught.value.exit_code == 2
    assert store.state() == before
    # A log whose run was purged.
    with sqlite3.connect(store.root / "mlflow.db") as database:
        (log,) = database.execute(
            "select value from registered_model_tags where key = 'ecgbeats.promotion_log'"
        ).fetchone()
        database.execute("delete from params where run_uuid = ?", [log])
        database.execute("delete from runs where run_uuid = ?", [log])
    with pytest.raises(ServiceError, match="MLflow: "):
        standing(NAME)


def test_a_reason_too_long_for_the_log_is_refused_first(store: Registry) -> None:
    told: list[str] = []
    with pytest.raises(ConfigError, match="reason: expected at most 300 characters, got 301"):
        store.promote(reason="x" * 301, tell=told.append)
    assert told == []
    # And where a person is asked, before the answer is taken.
    for long in ({"by": "A" * 61}, {"by": "A", "reason": "x" * 301}):
        with pytest.raises(ValueError, match=r"at most (60|300) characters"):
            deployments.Approval(approve=True, **long)
    deployments.Approval(approve=True, by="A" * 60, reason="x" * 300)


def test_a_person_is_shown_the_verdict_that_made_a_challenger(
    store: Registry, tmp_path: Path
) -> None:
    files = shutil.copytree(store.files, tmp_path / "evidence")
    write_json(files / "verdict.json", verdict("accuracy"))
    assert not registered(files, "c4").approved
    write_json(files / "verdict.json", verdict())
    replace(store, files=files).take_in("c4")
    assert "## tiny: passed" in deployments._what_is_asked(RECIPE, 4)


def test_a_verdict_and_a_release_have_one_rival(store: Registry) -> None:
    for number in (2, 3, 2):
        store.promote(version=number)
    rivals = [rival_of(registry.version_of(NAME, number)) for number in (1, 2, 3)]
    assert [number for number, _ in rivals] == [None, 3, 2]


def test_a_recipe_that_the_registry_does_not_know_is_no_answer(
    store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion_cli, "enter", lambda: store.root)
    for command in (promotion_cli.status, promotion_cli.rollback):
        done = CliRunner().invoke(command, ["tinny"])
        assert done.exit_code == 2
        assert "expected one with a registered model (tiny), got 'tinny'" in done.output


def test_clocks_that_disagree_do_not_turn_the_log_around(store: Registry) -> None:
    entries = ledger.read(NAME).entries
    past = datetime(2020, 1, 1, tzinfo=UTC)
    late = next_entry(entries, "promote", 2, by="A", reason="", bento=None, now=past)
    assert late.time == entries[-1].time


# Killed.


@pytest.fixture(scope="module")
def rolled(template: Registry, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One from which to roll back: version 2 is champion, version 1 was."""
    made = template.copy(tmp_path_factory.mktemp("rolled"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.root)
        for name, stand_in in obedient_gate().items():
            patch.setattr(promotion, name, stand_in)
        made.enter()
        made.promote()
    return made


@pytest.mark.parametrize(("what", "steps"), [("promote", PROMOTE), ("rollback", ROLLBACK)])
def test_these_are_the_steps(
    store: Registry, what: str, steps: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "rollback":
        store.promote()
    told: list[str] = []
    getattr(store, what)(tell=told.append)
    assert len(told) == len(steps)
    assert all(words.startswith(step) for words, step in zip(told, steps, strict=True)), told


def kill(store: Registry, what: str, step: str, *which: str) -> None:
    # One process imports everything, and is forked for each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.promoting", *MLFLOW])
    child = context.Process(
        target=killed, args=(what, step, str(store.root), str(store.files), *which)
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("what", "step"),
    [*(("promote", step) for step in PROMOTE), *(("rollback", step) for step in ROLLBACK)],
)
def test_killed_at_any_step_it_is_the_old_state_or_the_new(
    template: Registry, rolled: Registry, tmp_path: Path, what: str, step: str
) -> None:
    source, steps = (template, PROMOTE) if what == "promote" else (rolled, ROLLBACK)
    store = source.copy(tmp_path)
    store.enter()
    before = store.state()
    kill(store, what, step)
    decided = steps.index(step) >= steps.index("decided")
    # Whoever looks next finds it whole.
    new = 2 if what == "promote" else 1
    assert standing(NAME)["champion"]["version"] == (new if decided else 3 - new)
    agree(store)
    after = store.state()
    if not decided:
        assert {**after, "bentos": []} == {**before, "bentos": []}
    else:
        assert len(after["log"]) == len(before["log"]) + 1
        assert json.loads(after["log"][-1])["version"] == new


@pytest.mark.parametrize(
    ("content", "step"),
    [*(("c1", step) for step in FIRST), *(("c4", step) for step in CHALLENGE)],
)
def test_a_run_killed_at_any_step_is_completed_by_the_next(
    template: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, step: str
) -> None:
    store = template.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    if content == "c1":
        shutil.copyfile(template.root / "empty.db", tmp_path / "mlflow.db")
        shutil.rmtree(tmp_path / "bentos")
    store.enter()
    kill(store, "take_in", step, content)
    if content == "c4":
        # The champion is who it was, whatever became of the challenger.
        agree(store)
        assert store.state()["aliases"]["champion"] == 1
    told: list[str] = []
    store.take_in(content, tell=told.append)
    agree(store)
    state = store.state()
    whole = {"champion": 1} if content == "c1" else {"champion": 1, "challenger": 4}
    assert state["aliases"] == whole
    # Once each: no second version, no second entry.
    assert sorted(state["tags"]) == ([1] if content == "c1" else [1, 2, 3, 4])
    actions = [json.loads(entry)["action"] for entry in state["log"]]
    assert actions == (["promote"] if content == "c1" else ["promote", "challenge", "challenge"])


@pytest.mark.parametrize(("content", "steps"), [("c1", FIRST), ("c4", CHALLENGE)])
def test_these_are_the_steps_of_a_run(
    template: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    steps: tuple[str, ...],
) -> None:
    store = template.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    if content == "c1":
        shutil.copyfile(template.root / "empty.db", tmp_path / "mlflow.db")
        shutil.rmtree(tmp_path / "bentos")
    store.enter()
    told: list[str] = []
    store.take_in(content, tell=told.append)
    assert len(told) == len(steps), told
    assert all(words.startswith(step) for words, step in zip(told, steps, strict=True)), told
