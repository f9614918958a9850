"""The built bento under `bentoml serve`: what it counts, traces and writes, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from ecgbeats.imaging.png import encode_png
from tests.support.bentos import PROJECT, Built
from tests.support.fuzzing import form_post
from tests.support.serving import Running, running
from tests.support.tiny_model import SPEC, random_images

pytestmark = pytest.mark.service

SAMPLES = PROJECT / "bento" / "page" / "samples"
RECORD = [(f"s002.{k}", (SAMPLES / f"s002.{k}").read_bytes()) for k in ("hea", "dat", "atr")]


class Collector(ThreadingHTTPServer):
    """What OpenTelemetry's own collector does with OTLP over HTTP: takes it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += [(resource.resource, span) for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def service(
    built: Built, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serving") / "service"
    traced = {
        "ECGBEATS_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}/v1/traces",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "NO_PROXY": "127.0.0.1",
        "ECGBEATS_WORKERS": "2",
    }
    with running(built, folder, **traced) as found:
        yield found


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.trust_env = False
        yield found


def test_figures_of_all_requests_are_where_prometheus_looks(
    service: Running, session: requests.Session
) -> None:
    png = encode_png(random_images(1)[0], SPEC.spec_id)
    good = [("file", ("a.png", png)), ("file", ("b.png", png))]
    assert session.post(f"{service.url}/classify", files=good).ok
    assert session.post(f"{service.url}/classify", files=[("file", b"x")]).status_code == 422
    recorded = session.post(
        f"{service.url}/classify_record", files=[("file", file) for file in RECORD]
    ).json()
    assert session.get(f"{service.url}/made-up").status_code == 404
    answer = session.get(f"{service.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    paths = set()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
            paths.add(sample.labels.get("endpoint"))
    beats = len(recorded["beats"])
    assert found["ecgbeats_beats_total"] == found["ecgbeats_confidence_count"] == 2 + beats
    assert found["ecgbeats_batch_size_sum"] == 2 + beats
    assert found["ecgbeats_recording_seconds_sum"] == recorded["recording"]["seconds"]
    assert found["ecgbeats_refusals_total"] == 2
    assert "other" in paths and "/made-up" not in paths


def test_spans_arrive_where_they_are_wanted(service: Running, collector: Collector) -> None:
    end = time.monotonic() + 30
    wanted = {"POST /classify", "POST /classify_record"}
    while time.monotonic() < end and not _names(collector) >= wanted:
        time.sleep(0.1)
    assert _names(collector) >= wanted
    assert not {name for name in _names(collector) if "/readyz" in name}


def _names(collector: Collector) -> set[str]:
    return {span.name for _, span in collector.spans}


def test_only_figures_are_written_and_only_folders_are_made(service: Running, built: Built) -> None:
    """So a read-only file system will do, with one folder for temporary files."""
    figures = str(built.home / "prometheus_multiproc_dir")
    temporary = str(service.folder / "tmp")
    elsewhere = [
        line for line in service.written()
        if figures not in line and temporary not in line and "/dev/null" not in line
        # Of the figures of an earlier start, named from inside their folder.
        and not (line.startswith("os.remove") and line.endswith(".db'"))
        # Where the store has not all of its folders yet.
        and not line.startswith(f"os.mkdir '{built.home}/")
    ]  # fmt: skip
    assert elsewhere == []
    assert [*(service.folder / "home").rglob("*")] == [*(service.folder / "cwd").rglob("*")] == []
    assert not [path for path in (service.folder / "tmp").rglob("*") if path.is_file()]
    opened = {file.path for worker in service.workers() for file in worker.open_files()}
    ours = {str(service.folder / name) for name in ("log", "written")}
    assert not {path for path in opened - ours if figures not in path}


def test_nobody_is_believed_or_reported_to_unasked(service: Running) -> None:
    for worker in service.workers():
        assert worker.environ()["FORWARDED_ALLOW_IPS"] == "none"
        assert worker.environ()["ORT_DISABLE_TELEMETRY"] == "1"


def test_asked_to_end_it_answers_what_it_took_on(
    service: Running, session: requests.Session
) -> None:
    """Sent whole or in part, waiting or at work: of each request the head had arrived."""
    whole = form_post("/classify_record", RECORD)
    connections = [socket.create_connection(("127.0.0.1", service.port), 60) for _ in range(6)]
    for k, connection in enumerate(connections):
        connection.sendall(whole[0] + (whole[1][:1000] if k < 2 else whole[1]))
    url = f"{service.url}/metrics"
    wanted = 'request_in_progress{endpoint="/classify_record"'
    end = time.monotonic() + 30
    while time.monotonic() < end:
        lines = [line for line in session.get(url, timeout=10).text.splitlines() if wanted in line]
        if lines and float(lines[0].split()[-1]) + len(_answered(service)) >= len(connections):
            break
        time.sleep(0.02)
    before = len(_answered(service))
    service.process.send_signal(signal.SIGTERM)
    for connection in connections[:2]:
        time.sleep(0.2)
        connection.sendall(whole[1][1000:])
    for connection in connections:
        with connection:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
            assert len(json.loads(answer.read())["beats"]) > 30
    service.process.wait(30)
    assert len(_answered(service)) - before >= 2, "nothing was under way"
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", service.port), 5):
        raise AssertionError("it still listens")


def _answered(service: Running) -> list[Any]:
    # Beyond the one that the figures were tested with.
    return [line for line in service.answered if line["route"] == "/classify_record"][1:]
