"""`ecgbeats data remove`: folder, page and listing of an addition that no recipe uses."""

from __future__ import annotations

import shutil
from pathlib import Path

from ecgbeats.config import read_params
from ecgbeats.errors import ConfigError
from pipelines import added, dag, placing
from pipelines.added import Entry
from pipelines.uniting import users_of


def remove(root: Path, name: str) -> Entry:
    """Remove the addition `name`; return what it was. DVC's cache, and git's history, keep it.

    Raises
    ------
    ConfigError
        There is none, or a recipe is trained with it.
    ServiceError
        Something is being added or removed just now.
    """
    with placing.alone(root):
        placing.recover(root, name)
        entry = added.get(root, name)
        users = users_of(read_params(root / "params.yaml"), name)
        if users:
            raise ConfigError(
                f"data {name}: expected no recipe that uses it, {', '.join(users)} do; "
                f"`ecgbeats retrain {users[0]} --without {name}` first"
            )
        dag.untrack(root, added.folder_of(root, name))
        shutil.rmtree(added.page_of(root, name).parent, ignore_errors=True)
    return entry
