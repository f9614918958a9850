from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests go to one worker, for they share what the file makes.

    Those of the service share a bento, which BentoML can load once in a process.
    """
    for item in items:
        shared = "built" in getattr(item, "fixturenames", ())
        group = "bento" if shared else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
