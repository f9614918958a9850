"""An upgrade under load: one bento takes another's place behind the switch, and nobody notices.

    python benchmarks/serving/swap.py [--first TAG] [--second TAG] [--clients 8]

By default both are the carried model's bento, of which two processes are started; with two tags of
the store, the answers tell which of them answered. Starts the first and `ecgbeats switch` before
it; lets clients ask all the time; starts the second, writes it into the switch's control file, and
ends the first as soon as the switch says that it has taken it over. Prints JSON: answers by status,
and by model, and how long clients waited. Exits 1 if one request failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import requests
from load import Answered, form_request, load

from ecgbeats.files import write_text
from ecgbeats.golden import read_golden
from ecgbeats.imaging.png import encode_png
from pipelines import carried
from pipelines.environment import enter
from pipelines.packaging import bento_folder, served

# Load before, between and after.
_STRETCH_S = 2.0
_PATIENCE_S = 60.0
# Of each bento.
_WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first")
    parser.add_argument("--second")
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    root = enter()
    first = options.first or carried.build(root)
    found = swap(first, options.second or first, clients=options.clients)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["failed"] else 0)


def swap(first: str, second: str, *, clients: int) -> dict[str, Any]:
    """Replace `first` by `second` under load; say what the clients saw."""
    golden = read_golden(bento_folder(first) / "src" / "golden.npz")
    with tempfile.TemporaryDirectory(prefix="ecgbeats-swap-") as folder, ExitStack() as stack:
        control = Path(folder) / "switch.yaml"
        of_first = ExitStack()
        stack.push(of_first)
        old, _ = of_first.enter_context(served(first, workers=_WORKERS))
        write_text(control, f"champion: {old}\n")
        url, admin = stack.enter_context(_switch(control, Path(folder)))
        posts = [
            form_request(f"{url}/classify", encode_png(image, golden.spec_id))
            for image in golden.images
        ]
        with _loaded(f"{url}/classify", posts, clients) as answered:
            time.sleep(_STRETCH_S)
            new, _ = stack.enter_context(served(second, workers=_WORKERS))
            time.sleep(_STRETCH_S)
            write_text(control, f"champion: {new}\n")
            _wait_for(admin, new)
            of_first.close()
            time.sleep(_STRETCH_S)
    return _summary(answered[0])


@contextmanager
def _switch(control: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """`ecgbeats switch` as a process; its addresses for clients and for those who run it."""
    command = [sys.executable, "-P", "-m", "pipelines.cli", "switch", "--control", str(control)]
    log = folder / "switch.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", "0", "--admin-port", "0"], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + _PATIENCE_S
        found: dict[str, str] = {}
        while len(found) < 2:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the switch does not start:\n{log.read_text()}")
            time.sleep(0.1)
            lines = [json.loads(line) for line in log.read_text().splitlines() if line[:1] == "{"]
            found = {line["for"]: line["url"] for line in lines if line["event"] == "listening"}
        yield found["clients"], found["admin"]
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


@contextmanager
def _loaded(url: str, posts: list[bytes], clients: int) -> Iterator[list[Answered]]:
    """Load while the block runs; what came of it is in the list afterwards."""
    ended, found = threading.Event(), list[Answered]()

    def run() -> None:
        found.append(load(url, posts, clients=clients, seconds=600, keep_bodies=True, ended=ended))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _wait_for(admin: str, champion: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    with requests.Session() as session:
        session.trust_env = False
        while session.get(f"{admin}/status", timeout=5).json()["plan"]["champion"] != champion:
            if time.monotonic() > end:
                raise SystemExit("the switch does not take over its control file")
            time.sleep(0.05)


def _summary(answered: Answered) -> dict[str, Any]:
    models = [json.loads(body)["model"] for body in answered.bodies]
    names = [f"{model['name']} {model['version']}" for model in models]
    parts = quantiles(answered.seconds, n=100, method="inclusive")
    return {
        "answers": len(answered.seconds),
        "failed": answered.failed,
        "statuses": {str(status): count for status, count in answered.statuses.items()},
        "by_model": dict(Counter(names)),
        "last_by": names[-1],
        "seconds": round(answered.took_s, 1),
        "p50_ms": round(1e3 * parts[49], 1),
        "p99_ms": round(1e3 * parts[98], 1),
        "longest_ms": round(1e3 * max(answered.seconds), 1),
    }


if __name__ == "__main__":
    main()
