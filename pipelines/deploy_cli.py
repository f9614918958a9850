"""`ecgbeats deploy`: the deployments of prefect.yaml, brought to the Prefect server."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from ecgbeats.cli import in_words
from pipelines.environment import enter

POOL = "ecgbeats"


@click.command()
@in_words
def deploy() -> None:
    """Bring prefect.yaml to the Prefect server that PREFECT_API_URL names.

    As `prefect deploy --all`, and makes the work pool if it is not there.
    """
    root = enter()
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    from ecgbeats.errors import ServiceError

    async def make_pool() -> None:
        async with get_client() as client:
            try:
                await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
            except ObjectAlreadyExists:
                return

    asyncio.run(make_pool())
    # Where prefect.yaml has workers find the project.
    os.environ["ECGBEATS_PROJECT"] = str(root)
    said = _prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(root / "prefect.yaml"))
    if said:
        raise ServiceError(f"prefect deploy: ended with {said}; its own words are above")


def _prefect(*words: str) -> int:
    """Prefect's own command line, in this process; its exit status.

    Prefect 3.8.8 asks its server for a pool's workers with nulls for `limit` and `offset`, and
    under FastAPI 0.153 the server refuses a null where a number has a default. So they are given.
    """
    from prefect.cli import app
    from prefect.client.orchestration import PrefectClient

    asked, given = PrefectClient.read_workers_for_work_pool, sys.argv

    async def with_numbers(self: Any, name: str, worker_filter: Any = None, **_: Any) -> Any:
        return await asked(self, name, worker_filter, offset=0, limit=100)

    PrefectClient.read_workers_for_work_pool = with_numbers  # type: ignore[method-assign,assignment]
    sys.argv = ["prefect", *words]
    try:
        app()
    except SystemExit as ended:
        code = ended.code
        return code if isinstance(code, int) else int(code is not None)
    finally:
        sys.argv = given
        PrefectClient.read_workers_for_work_pool = asked  # type: ignore[method-assign]
    return 0
