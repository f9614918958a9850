"""Which bento `serve` and `container` are given: one that is whole and has answered here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecgbeats.errors import DataError
from pipelines import elsewhere, registry
from pipelines.registry import Registered

pytestmark = pytest.mark.unit

TAG = "ecgbeats-tiny:1-c0de"


@dataclass
class Store:
    whole: bool
    tried: bool
    packs: str = TAG
    done: list[str] = field(default_factory=list)

    def is_whole(self, tag: str, folder: Path) -> bool:
        return self.whole

    def was_tried(self, tag: str) -> bool:
        return self.tried

    def build(self, version: Registered, folder: Path) -> str:
        self.done.append("build")
        self.tried = False
        return self.packs

    def verify(self, tag: str, folder: Path) -> str:
        self.done.append("verify")
        return "well"


def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    champion = Registered("ecgbeats-tiny", 1, "champion", True, False, "run", {"bento": TAG})
    monkeypatch.setattr(registry, "champion", lambda _: champion)
    monkeypatch.setattr(elsewhere, "candidate_of", lambda _, to: SimpleNamespace(model=to))
    monkeypatch.setattr(elsewhere, "Bentos", lambda _: store)
    return elsewhere.bento_of(Path(), "tiny")


@pytest.mark.parametrize(
    ("whole", "tried", "done"),
    [
        (True, True, []),
        (True, False, ["verify"]),
        (False, True, ["build", "verify"]),
        (False, False, ["build", "verify"]),
    ],
)
def test_a_bento_is_handed_out_whole_and_tried_alone(
    whole: bool, tried: bool, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(whole, tried)
    assert asked(store, monkeypatch) == TAG
    assert store.done == done


def test_code_that_packs_another_bento_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="this checkout packs ecgbeats-tiny:1-abcd"):
        asked(Store(False, False, packs="ecgbeats-tiny:1-abcd"), monkeypatch)
