"""The deployments of prefect.yaml on a real server, with a worker: data, retraining, approval."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
import yaml

from ecgbeats.additions.naming import prefix_of
from ecgbeats.files import read_json
from tests.support.clinics import write_clinic
from tests.support.projects import HERE, RECIPE, Project, tiny_params
from tests.support.servers import stop

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning"),
]

_DONE = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Server:
    """Prefect's API, as a user's script would ask it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._asked("POST", path, json=body)

    def get(self, path: str) -> Any:
        return self._asked("GET", path)

    def _asked(self, method: str, path: str, **more: Any) -> Any:
        for _ in range(60):
            # Two cores, a flow and its server: where more runs beside, it may answer late.
            answer = self._session.request(method, f"{self.url}/{path}", timeout=300, **more)
            # SQLite is locked by another request: Prefect's own client asks again, too.
            if answer.status_code != 503:
                break
            time.sleep(1)
        assert answer.ok, answer.text
        return answer.json()

    def start(self, deployment: str, **parameters: Any) -> str:
        found = self.get(f"deployments/name/{deployment}")
        made = self.post(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def runs_of(self, deployment: str) -> list[dict[str, Any]]:
        found = self.get(f"deployments/name/{deployment}")
        only = {"deployments": {"id": {"any_": [found["id"]]}}, "sort": "START_TIME_ASC"}
        return list(self.post("flow_runs/filter", only))

    def until(self, run: str, there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The flow run's state, once it is as wanted or will never be."""
        end = time.monotonic() + 800
        while time.monotonic() < end:
            state: dict[str, Any] = self.get(f"flow_runs/{run}")["state"]
            if there(state) or state["type"] in _DONE:
                return state
            time.sleep(0.3)
        raise AssertionError(f"flow run {run} is {state}")

    def done(self, run: str) -> dict[str, Any]:
        return self.until(run, lambda state: state["type"] in _DONE)


@pytest.fixture(scope="module")
def server(prefect_api: str) -> Server:
    return Server(prefect_api)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, drawn: Project, prefect_api: str) -> Project:
    root = tmp_path_factory.mktemp("deployed") / "project"
    made = Project.create_after(drawn, root, tiny_params()).with_prefect(prefect_api)
    (root / "prefect.yaml").write_text((HERE / "prefect.yaml").read_text())
    return made


@pytest.fixture(scope="module")
def deployed(project: Project) -> subprocess.CompletedProcess[str]:
    """As docs/monitoring.md says."""
    return project.call("ecgbeats", "deploy")


@pytest.fixture(scope="module")
def worker(
    project: Project, deployed: subprocess.CompletedProcess[str]
) -> Iterator[Callable[[], str]]:
    """A worker; calling it gives what it has said."""
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    log = project.root.parent / "worker.log"
    settings = {"PREFECT_WORKER_QUERY_SECONDS": "0.5", "PREFECT_WORKER_HEARTBEAT_SECONDS": "30"}
    settings |= {"PREFECT_HOME": str(project.root / ".prefect")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["prefect", "worker", "start", "--pool", "ecgbeats"],
            cwd=project.root.parent,
            env={**project.env, **settings},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield lambda: log.read_text()[-4000:]
    finally:
        stop(process)


def status(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        project.call("ecgbeats", "status", RECIPE, "--json", check=True).stdout
    )
    return found


def test_every_deployment_of_the_file_is_on_the_server(
    server: Server, deployed: subprocess.CompletedProcess[str], project: Project
) -> None:
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    asked = yaml.safe_load((HERE / "prefect.yaml").read_text())["deployments"]
    held = {each["name"]: each for each in server.post("deployments/filter", {})}
    assert {*held} >= {each["name"] for each in asked}
    for each in asked:
        assert len(held[each["name"]]["schedules"]) == len(each.get("schedules", ()))
    (pull,) = held["retrain"]["pull_steps"]
    (where,) = pull.values()
    assert Path(where["directory"]).resolve() == project.root.resolve()


@pytest.mark.timeout(1800)
def test_new_data_start_retraining_and_a_person_decides_on_the_challenger(
    server: Server, project: Project, worker: Callable[[], str]
) -> None:
    # A champion, which needs no approval: it is the first.
    first = server.start("retrain-and-propose/retrain", recipe=RECIPE, promotion="ask")
    state = server.done(first)
    assert state["type"] == "COMPLETED", f"{state}\n{worker()}"
    assert state["message"] == f"ecgbeats-{RECIPE} version 1: champion"
    write_clinic(project.root.parent / "clinic", 3, fs=250)
    project.call("ecgbeats", "data", "add", "ward", "../clinic", "--no-model", check=True)
    watched = server.start("watch-data/new-data", recipe=RECIPE, promotion="ask")
    assert server.done(watched)["type"] == "COMPLETED", worker()
    runs = server.runs_of("retrain-and-propose/retrain")
    assert len(runs) == 2
    state = server.done(runs[-1]["id"])
    assert state["type"] == "COMPLETED", f"{state}\n{worker()}"
    split = pd.read_parquet(project.root / "data/interim" / RECIPE / "split" / "split.parquet")
    learnt = split[split["side"].isin(["train", "validation"])]["record"].unique()
    assert sum(record.startswith(prefix_of("ward")) for record in learnt) == 3
    (waiting,) = server.runs_of("promote-when-approved/approve")
    state = server.until(waiting["id"], lambda state: state["type"] == "PAUSED")
    assert state["name"] == "Suspended", f"{state}\n{worker()}"
    assert status(project)["champion"]["version"] == 1
    # The same data again start nothing.
    again = server.start("watch-data/new-data", recipe=RECIPE, promotion="ask")
    assert "was started before" in server.done(again)["message"]
    assert len(server.runs_of("retrain-and-propose/retrain")) == 2
    # An answer without a name is none.
    refused = server.post(f"flow_runs/{waiting['id']}/resume", {"run_input": {"approve": True}})
    assert refused["status"] == "REJECT"
    answer = {"approve": True, "by": "Ada", "reason": "the ward's patients"}
    server.post(f"flow_runs/{waiting['id']}/resume", {"run_input": answer})
    state = server.done(waiting["id"])
    assert state["type"] == "COMPLETED", f"{state}\n{worker()}"
    champion = status(project)["champion"]
    assert (champion["version"], champion["by"], champion["reason"], champion["overridden"]) == (
        2, "Ada", "the ward's patients", [],
    )  # fmt: skip
    release = project.root / "reports" / "releases" / f"ecgbeats-{RECIPE}-2" / "release.json"
    assert read_json(release)["log"][-1]["by"] == "Ada"
