from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer


# What commands that are called in a test's own process leave to the processes that they start.
_OF_COMMANDS = ("DASK_SCHEDULER_ADDRESS", "ECGBEATS_MIRROR")


@pytest.fixture(autouse=True)
def settings_end_with_their_test() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _OF_COMMANDS}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# Where long files are: begun last, one worker would be at them when the other is done.
_FIRST = ("tests/pipeline/", "tests/service/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; with `--no-loadscope-reorder` workers take them in this order."""
    place = {name: k for k, name in enumerate(_FIRST)}

    def rank(item: pytest.Item) -> int:
        return next((k for name, k in place.items() if item.nodeid.startswith(name)), len(place))

    items.sort(key=rank)


class ByFile(LoadScopeScheduling):
    """A file's tests go to one worker, for they share what the file makes.

    Those of the service all go to one: BentoML can load a bento once in a process. (xdist's own
    groups, by a mark, have no effect under pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "service" if path.startswith("tests/service/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)
