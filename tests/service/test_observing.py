"""What the service's log tells of a request, and what it does not."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from ecgbeats import observation
from ecgbeats.imaging.png import encode_png
from ecgbeats.monitoring.log import read_logs
from tests.support.bentos import Built
from tests.support.recordings import write_dataset
from tests.support.tiny_model import SPEC, random_images

pytestmark = pytest.mark.service

BEATS = "NNNANNVNNN" * 9


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, tuple[str, bytes]]]:
    folder = tmp_path_factory.mktemp("jane-doe")
    write_dataset(folder, {"janedoe": BEATS})
    paths = [folder / f"janedoe.{suffix}" for suffix in ("hea", "dat", "atr")]
    return [("file", (path.name, path.read_bytes())) for path in paths]


def observed(said: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] in ("classified", "not_observed")]


def test_a_recording_leaves_features_and_no_more(
    client: TestClient,
    built: Built,
    record: list[Any],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    capsys.readouterr()
    answer = client.post("/classify_record", files=record, data={"beats": "annotated"})
    assert answer.status_code == 200, answer.text
    said = capsys.readouterr().out
    (line,) = observed(said)
    body = answer.json()
    assert line["endpoint"] == "classify_record"
    assert line["beats"] == len(body["beats"]) == len(BEATS)
    assert line["answers"] == {name: n for name, n in body["counts"].items() if n}
    assert line["model"]["weights"] == built.classifier.card["weights_sha256"]
    # Of some beats, in no order of time, and nothing that was in the request.
    confidence = line["sample"]["confidence"]
    assert len(confidence) == 64 and confidence == sorted(confidence, reverse=True)
    assert {*line["sample"]} <= {
        "class", "uncertain", "confidence", *observation.OF_IMAGE, *observation.OF_SIGNAL
    }  # fmt: skip
    assert "janedoe" not in said and "doe" not in json.dumps(line)
    assert len(json.dumps(line)) < 6000
    # What monitoring makes of it.
    (tmp_path / "log").write_text(said)
    ((model, (request,)),) = read_logs([tmp_path / "log"]).requests.items()
    assert model.name == body["model"]["name"] and request.beats == len(BEATS)
    assert np.nanmedian(request.features["amplitude_mv"]) > 0.1
    assert np.nanmedian(request.features["rr_s"]) == pytest.approx(
        body["rhythm"]["rr_median_s"], abs=0.03
    )


def test_images_leave_a_line_for_the_model_that_answered(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    pngs = [encode_png(image, SPEC.spec_id) for image in random_images(3)]
    answer = client.post("/classify", files=[("file", (f"{k}.png", p)) for k, p in enumerate(pngs)])
    assert answer.status_code == 200, answer.text
    (line,) = observed(capsys.readouterr().out)
    assert (line["endpoint"], line["beats"], line["recording"]) == ("classify", 3, None)
    expected = observation.image_features(random_images(3), 0)["image_mean"]
    assert sorted(line["sample"]["image_mean"]) == pytest.approx(sorted(expected))
    # A refused request has nothing to tell.
    assert client.post("/classify", files=[("file", ("a.png", b"no"))]).status_code == 422
    assert observed(capsys.readouterr().out) == []


def test_a_request_is_answered_whatever_becomes_of_its_line(
    client: TestClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("said in the request: Jane Doe")

    monkeypatch.setattr(sys.modules["bento.observing"].observation, "pick", broken)
    capsys.readouterr()
    png = encode_png(random_images(1)[0], SPEC.spec_id)
    assert client.post("/classify", files=[("file", ("a.png", png))]).status_code == 200
    (line,) = observed(capsys.readouterr().out)
    assert (line["event"], line["error"]) == ("not_observed", "ValueError")
    assert "Jane" not in json.dumps(line)


class Full(io.TextIOBase):
    """A log on a disk that is full."""

    def __init__(self) -> None:
        self.tried = 0

    def write(self, _: str) -> int:
        self.tried += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_request_is_answered_where_no_log_can_be_written(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    png = encode_png(random_images(1)[0], SPEC.spec_id)
    for log in (full := Full(), closed := io.StringIO()):
        if log is closed:
            log.close()
        monkeypatch.setattr(sys, "stdout", log)
        assert client.post("/classify", files=[("file", ("a.png", png))]).status_code == 200
        assert client.post("/classify", files=[("file", ("a.png", b"no"))]).status_code == 422
    assert full.tried >= 3


def test_observation_can_be_off(
    client: TestClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["bento.observing"], "LOGGED_BEATS", 0)
    capsys.readouterr()
    png = encode_png(random_images(1)[0], SPEC.spec_id)
    assert client.post("/classify", files=[("file", ("a.png", png))]).status_code == 200
    said = capsys.readouterr().out
    assert observed(said) == [] and '"answered"' in said
