"""Run the commands of a README as a reader would: literally, in order, in this checkout.

Commands are the lines of ```bash blocks. Those that start a server are started, asked
for their page and stopped. Those on the real database need --mirror, a folder or URL
that takes the place of the one that the README writes; without it they are skipped, and
this says so.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

WRITTEN_MIRROR = "/path/to/mitdb"
SERVERS = {
    "make serve": "http://127.0.0.1:3000/readyz",
    "make mlflow": "http://127.0.0.1:5000/health",
    "make prefect": "http://127.0.0.1:4200/api/health",
}
# Not run here: they are what got the reader, or this script, to where it is.
ELSEWHERE = ("git clone", "cd ", "make test", "make lint", "make clean")


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    joined = "".join(blocks).replace("\\\n", " ")
    lines = (line.split(" # ")[0].strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def answers(url: str, process: subprocess.Popen[bytes], patience_s: float = 180) -> bool:
    for _ in range(int(patience_s)):
        if process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(1)
    return False


def start(command: str, url: str) -> subprocess.Popen[bytes] | None:
    process = subprocess.Popen(["bash", "-c", command], start_new_session=True)
    if answers(url, process):
        return process
    stop(process)
    return None


def stop(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readme", type=Path)
    parser.add_argument("--mirror")
    options = parser.parse_args()
    os.environ["PATH"] = f"{Path('.venv/bin').resolve()}{os.pathsep}{os.environ['PATH']}"
    running: subprocess.Popen[bytes] | None = None
    try:
        for command in commands(options.readme.read_text("utf-8")):
            if command.startswith(ELSEWHERE):
                print(f"--- run elsewhere: {command}", flush=True)
                continue
            if "mitdb" in command:
                if not options.mirror:
                    print(f"--- skipped, needs the real database: {command}", flush=True)
                    continue
                if WRITTEN_MIRROR in command:
                    command = command.replace(WRITTEN_MIRROR, options.mirror)
                elif command == "make run RECIPE=mitdb-aami5":
                    # It would download from PhysioNet.
                    print(f"--- run with a mirror instead: {command}", flush=True)
                    continue
            print(f"--- {command}", flush=True)
            url = next((u for name, u in SERVERS.items() if command.startswith(name)), None)
            if url is not None:
                if running is not None:
                    stop(running)
                running = start(command, url)
                if running is None:
                    print(f"FAILED: no answer from {url}: {command}")
                    return 1
                continue
            done = subprocess.run(["bash", "-eo", "pipefail", "-c", command])
            if done.returncode:
                print(f"FAILED with exit status {done.returncode}: {command}")
                return 1
    finally:
        if running is not None:
            stop(running)
    return 0


if __name__ == "__main__":
    sys.exit(main())
