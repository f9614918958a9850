"""Servers as teams run them, on loopback: PostgreSQL, one that speaks S3, MLflow before both."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from tests.support.projects import free_port, healthy, without_their_settings

# The server asks for credentials, and takes any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "something"}
BUCKET = "ecgbeats"
# Where Debian and Ubuntu have PostgreSQL's programs, which are not on the path there.
_DEBIAN = Path("/usr/lib/postgresql")


def postgres_programs() -> Path | None:
    """The folder with initdb and pg_ctl; None where there is no PostgreSQL."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = [path for path in _DEBIAN.glob("*/bin") if (path / "initdb").is_file()]
    return max(installed, key=lambda path: float(path.parent.name), default=None)


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """URL of an empty database, by SQLAlchemy's words for it, of a server that ends with it."""
    # PostgreSQL does not run as root, and nobody else may enter pytest's folders.
    as_them: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="ecgbeats-postgres-"))
    if os.geteuid() == 0:
        names = {user.pw_name: user for user in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_them = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    data, port = folder / "data", free_port()
    # What is lost when the machine fails need not be waited for here.
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

    def call(program: str, *words: str) -> None:
        # Into a file: the server that pg_ctl leaves running would hold a pipe open.
        with (folder / "said").open("ab") as said:
            done = subprocess.run(
                [*as_them, str(programs / program), *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=120,
            )
        assert done.returncode == 0, (folder / "said").read_text()

    try:
        call("initdb", "-D", str(data), "-U", "mlflow", "-A", "trust", "-E", "UTF8", "--no-sync")
        log = str(folder / "log")
        call("pg_ctl", "start", "-w", "-D", str(data), "-l", log, "-o", options)
        try:
            call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
            yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(data))
    finally:
        shutil.rmtree(folder)


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3, with one empty bucket."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        s3_client(url).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.stop()


def s3_client(url: str) -> boto3.client:
    keys = {key.lower(): value for key, value in CREDENTIALS.items()}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)


@contextmanager
def mlflow_server(
    store: str, artifacts: str, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """URL of an MLflow server that keeps its tables in `store` and serves `artifacts`."""
    port = free_port()
    command = ["mlflow", "server", "--backend-store-uri", store]
    command += ["--artifacts-destination", artifacts, "--workers", "1"]
    ours = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env={**without_their_settings(os.environ), **ours, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 300
        while not healthy(f"http://127.0.0.1:{port}/health"):
            said = (folder / "mlflow.log").read_text()
            assert process.poll() is None and time.monotonic() < end, said
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def stop(process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Ask it to end; end it where it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
