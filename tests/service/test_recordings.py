"""Recordings and explanations over HTTP: as offline, and whatever comes."""

from __future__ import annotations

import base64
import gzip
import importlib
import io
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from ecgbeats.imaging.png import decode_image, encode_png
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.inference import Classifier
from ecgbeats.measuring_records import Reading, RecordSet, classify_record
from tests.support.bentos import PICTURES, PROJECT, SCHEME, Built
from tests.support.recordings import FS, write_dataset
from tests.support.tiny_model import CLASSES, SPEC, random_images, write_tiny_model

pytestmark = pytest.mark.service

SAMPLES = PROJECT / "bento" / "page" / "samples"
SUFFIXES = ("hea", "dat", "atr")
BEATS = "NNNANNVNNNNFNNANNVNN"
COMPOSITE = CompositeSpec(
    representation="composite", leads=2, second_lead=("V1",), panel_height=8, width=32
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record, r1, with annotations."""
    made = tmp_path_factory.mktemp("records")
    write_dataset(made, {"r1": BEATS})
    return made


def files(folder: Path, *suffixes: str) -> list[tuple[str, tuple[str, bytes]]]:
    paths = [folder / f"r1.{suffix}" for suffix in suffixes]
    return [("file", (path.name, path.read_bytes())) for path in paths]


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def refused(answer: Any) -> str:
    """The code of a refusal, which must have the one shape of all."""
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "expected", "got", "file"}
    assert error["expected"] and error["got"].isprintable() and len(answer.content) < 1200
    return str(error["code"])


def offline(model: Path, folder: Path) -> Any:
    """What `ecgbeats evaluate` makes of the record: a table with a row for each beat."""
    records = RecordSet(folder, {"r1": "r1"}, None)
    return classify_record(model, records, SCHEME, Reading(), "r1").predictions


def assert_as_offline(table: Any, body: dict[str, Any]) -> None:
    labelled = [beat for beat in body["beats"] if beat["reference"] is not None]
    assert [beat["sample"] for beat in labelled] == table["sample"].tolist()
    assert [beat["reference"] for beat in labelled] == [CLASSES[k] for k in table["label"]]
    given = [list(beat["probabilities"].values()) for beat in labelled]
    np.testing.assert_allclose(given, table[[f"p_{name}" for name in CLASSES]], atol=1e-5)


# As offline.


def test_a_record_with_annotated_beats_is_answered_as_by_evaluate(
    client: TestClient, built: Built, folder: Path
) -> None:
    answer = client.post(
        "/classify_record",
        files=files(folder, "hea", "dat", "atr"),
        data={"beats": "annotated", "pictures": "0,19", "trace": "true"},
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert_as_offline(offline(built.model, folder), body)
    assert len(body["beats"]) == sum(body["counts"].values()) == 20
    assert body["recording"]["beats_from"] == "annotated"
    comparison = body["comparison"]
    assert (comparison["matched"], comparison["missed"], comparison["extra"]) == (20, 0, 0)
    # A fusion beat has no class with this model.
    assert sum(sum(row.values()) for row in comparison["confusion"].values()) == 19
    agreed = sum(row.get(name, 0) for name, row in comparison["confusion"].items())
    assert comparison["agreement"] == pytest.approx(agreed / 19, abs=1e-5)
    trace = np.frombuffer(base64.b64decode(body["trace"]["microvolts"]), "<i2")
    assert len(trace) == pytest.approx(body["recording"]["seconds"] * body["trace"]["fs"], abs=2)
    # The picture of a beat, uploaded, is answered as the beat was.
    assert [picture["beat"] for picture in body["pictures"]] == [0, 19]
    png = base64.b64decode(body["pictures"][1]["png"])
    alone = client.post("/classify", files=[("file", ("b.png", png))]).json()["results"][0]
    np.testing.assert_allclose(
        list(alone["probabilities"].values()),
        list(body["beats"][19]["probabilities"].values()),
        atol=1e-5,
    )


def test_so_is_one_whose_images_hold_two_leads_and_the_rhythm(
    service: Any, folder: Path, tmp_path: Path
) -> None:
    recordings = importlib.import_module("bento.recordings")
    uploads = importlib.import_module("bento.uploads")
    classifier: Classifier = write_tiny_model(tmp_path / "model", COMPOSITE)
    sent = [uploads.Upload(name, data) for _, (name, data) in files(folder, "hea", "dat", "atr")]
    read = recordings.read_files(sent, "atr", SCHEME, lead=None)
    model = service()._model
    answer = recordings.classify(classifier, model, read, SCHEME, beats_from="annotated")
    assert_as_offline(offline(tmp_path / "model", folder), answer.model_dump())


def test_beats_are_found_and_compared(client: TestClient) -> None:
    sent = [("file", (f"s002.{k}", (SAMPLES / f"s002.{k}").read_bytes())) for k in SUFFIXES]
    body = client.post("/classify_record", files=sent).json()
    assert body["recording"]["beats_from"] == "detected"
    comparison = body["comparison"]
    assert comparison["reference_beats"] == 75
    assert comparison["matched"] >= 74 and comparison["extra"] <= 1
    alone = client.post("/classify_record", files=sent[:2]).json()
    assert alone["comparison"] is None
    assert alone["beats"] == [{**beat, "reference": None} for beat in body["beats"]]
    # As a Mac packs them, each with what it knows of the file besides.
    packed = zipped(
        {
            f"{place}/{name}": content if place == "folder" else b"Mac OS X"
            for _, (name, content) in sent
            for place, name in (("folder", name), ("__MACOSX/folder", f"._{name}"))
        }
    )
    inside = client.post("/classify_record", files=[("file", ("s002.zip", packed))]).json()
    assert inside == body
    (header, (_, (_, data))) = sent[:2]
    unpacked = client.post(
        "/classify_record", files=[header, ("file", ("d/s002.dat.gz", gzip.compress(data)))]
    )
    assert unpacked.json() == alone


# CSV and JSON.


@pytest.fixture(scope="module")
def trace(folder: Path) -> np.ndarray:
    from ecgbeats.records import read_recording

    return read_recording(folder / "r1").signal[:, 0].astype(float)


def test_one_column_is_answered_however_it_comes(
    client: TestClient, folder: Path, trace: np.ndarray
) -> None:
    positions = [beat["sample"] for beat in _record(client, folder)["beats"]]
    text = "whatever\n" + "".join(f"{value:.4f}\n" for value in trace)
    as_json = json.dumps({"samples": trace.round(4).tolist(), "fs": FS, "lead": "II"})
    answers = [
        client.post("/classify_signal", files=_one(text), data={"fs": "360"}),
        client.post("/classify_signal", files=_one(gzip.compress(text.encode())), data={"fs": 360}),
        client.post("/classify_signal", files=_one(zipped({"a.csv": text.encode()})), data=_FS),
        client.post("/classify_signal?fs=360", content=text, headers=_type("text/csv")),
        client.post("/classify_signal", content=as_json, headers=_type("application/json")),
        client.post("/classify_signal", files=_one(as_json)),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert [beat["sample"] for beat in answer.json()["beats"]] == positions
    assert answers[0].json()["recording"]["lead"] == "whatever"
    assert answers[4].json()["recording"]["lead"] == "II"
    microvolts = "x\n" + "".join(f"{value * 1000:.1f}\n" for value in trace)
    scaled = client.post("/classify_signal", files=_one(microvolts), data={**_FS, "units": "uV"})
    np.testing.assert_allclose(
        _probabilities(scaled.json()), _probabilities(answers[0].json()), atol=2e-3
    )


def test_given_beats_are_answered_as_annotated_ones(
    client: TestClient, folder: Path, trace: np.ndarray
) -> None:
    annotated = _record(client, folder, beats="annotated")
    content = {
        "samples": trace.tolist(),
        "fs": FS,
        "lead": "MLII",
        "beats": [beat["sample"] for beat in annotated["beats"]],
    }
    body = client.post("/classify_signal", json=content).json()
    assert body["recording"]["beats_from"] == "given"
    np.testing.assert_allclose(_probabilities(body), _probabilities(annotated), atol=1e-5)


_FS = {"fs": "360"}


def _one(content: str | bytes, name: str = "a.csv") -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (name, content if isinstance(content, bytes) else content.encode()))]


def _type(media_type: str) -> dict[str, str]:
    return {"content-type": media_type}


def _record(client: TestClient, folder: Path, **data: str) -> dict[str, Any]:
    sent = files(folder, "hea", "dat", "atr")
    body: dict[str, Any] = client.post("/classify_record", files=sent, data=data).json()
    return body


def _probabilities(body: dict[str, Any]) -> list[list[float]]:
    return [list(beat["probabilities"].values()) for beat in body["beats"]]


# Explanations, and what is read.


def test_explains_what_an_answer_rests_on(client: TestClient, built: Built) -> None:
    image = random_images(1, seed=3)[0]
    answer = client.post("/explain", files=_one(encode_png(image, SPEC.spec_id), "b.png"))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (16 * 6, 16 * 6) and picture.mode == "RGB"
        first = np.asarray(picture, int)
    best = CLASSES[int(built.classifier.predict(image[None])[0].argmax())]
    sent = _one(encode_png(image, SPEC.spec_id), "b.png")
    named = client.post("/explain", files=sent, data={"label": best})
    assert named.content == answer.content
    other = next(name for name in CLASSES if name != best)
    against = client.post("/explain", files=sent, data={"label": other})
    with Image.open(io.BytesIO(against.content)) as picture:
        second = np.asarray(picture, int)
    # What speaks for one class speaks against others: red and blue change places.
    redness = [(p[..., 0] - p[..., 2]).ravel() for p in (first, second)]
    assert np.corrcoef(*redness)[0, 1] < 0
    assert refused(client.post("/explain", files=sent, data={"label": "X"})) == "no_such_class"
    both = client.post("/explain", files=[*sent, *sent])
    assert (refused(both), both.status_code) == ("too_many_files", 413)
    assert refused(client.post("/explain", files=_one(b"no image"))) == "not_an_image"


def test_says_which_model_answers_and_what_it_is_worth(client: TestClient, built: Built) -> None:
    card = client.get("/model").json()
    assert (card["name"], card["version"], card["recipe"]) == ("ecgbeats-tiny", "3", "tiny")
    assert card["labels"] == dict(SCHEME.classes) and card["classes"] == list(CLASSES)
    assert card["image"] == SPEC.model_dump(mode="json") and card["spec_id"] == SPEC.spec_id
    assert card["metrics"] == {"accuracy": 0.5, "headline": {"classes": ["N"], "macro_f1": 0.5}}
    assert card["lineage"] == {"git_commit": "8e6c9d1"}
    # Who was recorded may be told by the names of records: they stay in the model's own card.
    assert card["training"] == {"epochs_run": 1}
    assert card["medical_device"] is False
    (beside,) = card["beside"]
    assert (beside["name"], beside["spec_id"]) == ("ecgbeats-tiny-picture", PICTURES.spec_id)


def test_shows_each_class_as_the_model_sees_it(client: TestClient) -> None:
    classes = client.get("/classes").json()
    assert [known["name"] for known in classes] == list(CLASSES)
    for known in classes:
        assert known["title"] and known["about"] and len(known["examples"]) == 3
        for example in known["examples"]:
            image = decode_image(base64.b64decode(example["png"]), SPEC.shape, SPEC.spec_id)
            assert np.ptp(image) > 100 and np.ptp(example["trace_mv"]) > 0.3


def test_pages_get_a_strict_policy_and_answers_are_kept_by_nobody(client: TestClient) -> None:
    for path in ("/", "/model", "/page/app.js", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    assert client.get("/model").headers["cache-control"] == "no-store"


# Refusals.


def test_a_record_that_is_not_whole_is_refused_in_words(client: TestClient, folder: Path) -> None:
    header, data, _ = files(folder, "hea", "dat", "atr")
    cut = ("file", ("r1.dat", data[1][1][:-300]))

    def code(*sent: Any, **fields: str) -> str:
        return refused(client.post("/classify_record", files=list(sent), data=fields))

    assert code(header) == "unusable_recording"
    assert code(data) == "not_one_record"
    assert code(header, header, data) == "same_name_twice"
    assert code(header, cut) == "unusable_recording"
    assert code(header, data, beats="annotated") == "no_annotations"
    assert code(header, data, beats="guessed") == "bad_field"
    assert code(header, data, lead="aVR") == "unusable_recording"
    assert code(header, data, pictures="9999") == "no_such_beat"
    assert code(header, data, pictures="-1") == "bad_field"
    assert code(header, data, annotator="../x") == "bad_field"
    # One more than there may be, beside which no field is.
    assert code(*[header] * 33) == "too_many_files"
    assert code(header, data, trace="perhaps") == "bad_field"


def test_archives_are_bounded_and_lead_nowhere(client: TestClient, folder: Path) -> None:
    bomb = zipped({"r1.dat": bytes(200 * 1024**2)})
    lying = bytearray(zipped({"r1.dat": bytes(40 * 1024**2)}))
    at = lying.rindex(b"PK\x01\x02") + 24
    lying[at : at + 4] = (100).to_bytes(4, "little")
    cases = {
        "archive_too_large": [bomb, gzip.compress(bytes(64 * 1024**2))],
        "unsafe_name": [zipped({"../r1.hea": b""}), zipped({"/etc/r1.hea": b""})],
        "too_many_files": [zipped({f"{k}.hea": b"" for k in range(65)})],
        "bad_archive": [
            zipped({"r1.hea": b"x" * 999}, zipfile.ZIP_LZMA),
            zipped({"r1.hea": b"x" * 999})[:-30],
            b"PK\x03\x04",
            gzip.compress(b"x" * 999)[:-3],
            b"\x1f\x8b" + bytes(30),
        ],
    }
    for code, contents in cases.items():
        for content in contents:
            answer = client.post("/classify_record", files=_one(content, "r1.zip"))
            assert refused(answer) == code
    answer = client.post("/classify_record", files=_one(bytes(lying), "r1.zip"))
    assert refused(answer) in ("bad_archive", "archive_too_large")


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda post: post(content="1\n", headers=_type("text/plain")), "unsupported_media_type"),
        (lambda post: post(files=_one("1\n2\n")), "missing_sampling_rate"),
        (lambda post: post(files=_one("1\n2\n"), data={"fs": "fast"}), "bad_sampling_rate"),
        (lambda post: post(files=_one("1\n2\n"), data={"fs": "inf"}), "bad_sampling_rate"),
        (lambda post: post(files=_one("1\n2\n"), data={"fs": "1e308"}), "bad_sampling_rate"),
        (lambda post: post(files=_one("1\n2\n"), data={**_FS, "units": "mmHg"}), "bad_units"),
        (lambda post: post(files=_one("1\n2\n"), data=_FS), "unusable_recording"),
        (lambda post: post(files=_one("0\n" * 3600), data=_FS), "unusable_recording"),
        (lambda post: post(files=_one("nan\n" * 3600), data=_FS), "unusable_recording"),
        (lambda post: post(files=_one("0\n1\n" * 1800), data={**_FS, "units": "nV"}), "no_beats"),
        (lambda post: post(files=_one("1\n" * 99), data={"fs": "0.001"}), "recording_too_long"),
        (lambda post: post(files=_one("1\n"), data={**_FS, "sex": "f"}), "unknown_field"),
        (lambda post: post(files=_one("1\n"), data={**_FS, "lead": "x" * 2000}), "bad_form"),
        (lambda post: post(json=[[1]]), "not_a_signal"),
        (lambda post: post(content="{", headers=_type("application/json")), "not_json"),
        (lambda post: post(json={"samples": [1], "fs": 1, "beats": [5]}), "bad_beats"),
    ],
)
def test_other_signals_are_refused_in_words(
    client: TestClient, send: Callable[..., Any], code: str
) -> None:
    assert refused(send(lambda **sent: client.post("/classify_signal", **sent))) == code


def test_uploads_reach_no_disk_and_no_log(
    client: TestClient,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def must_not(*_: Any, **__: Any) -> Any:
        raise AssertionError("written to disk")

    import tempfile

    for name in ("_TemporaryFileWrapper", "mkstemp", "TemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, must_not)
    caplog.set_level("DEBUG")
    text = (folder / "r1.hea").read_text().replace("r1", "jane_doe")
    sent = [
        ("file", ("jane_doe.hea", text.encode())),
        ("file", ("jane_doe.dat", (folder / "r1.dat").read_bytes())),
    ]
    assert client.post("/classify_record", files=sent).status_code == 200
    assert refused(client.post("/classify_record", files=sent[:1])) == "unusable_recording"
    assert "jane_doe" not in capsys.readouterr().out + caplog.text


def _hostile(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests with spoilt records, archives, tables and JSON, and absurd headers."""
    rng = np.random.default_rng(9)
    whole = {name: content for _, (name, content) in files(folder, "hea", "dat", "atr")}
    table = "time,MLII\n" + "".join(f"{k / 360:.4f},{np.sin(k / 9):.3f}\n" for k in range(1100))
    document = json.dumps({"samples": [k % 7 for k in range(1100)], "fs": 360, "beats": [9, 99]})
    words = (b"nan", b"inf", b"-1", b"1e999", b"9" * 40, b"0", b"\xff\xfe", b"../", b"[", b'"')

    def spoilt(content: bytes) -> bytes:
        out = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(out)))
            if rng.random() < 0.3:
                out[at : at + int(rng.integers(1, 4))] = words[int(rng.integers(len(words)))]
            else:
                out[at] = int(rng.integers(256))
        if rng.random() < 0.25:
            del out[int(rng.integers(1, len(out))) :]
        return bytes(out)

    for i in range(120):
        names = (["r1.hea"], ["r1.hea"], ["r1.atr", "r1.dat"])[i % 3]
        some = {name: spoilt(data) if name in names else data for name, data in whole.items()}
        yield "/classify_record", {"files": [("file", (n, d)) for n, d in some.items()]}
    for _ in range(80):
        yield "/classify_record", {"files": _one(spoilt(zipped(whole)), "r1.zip")}
    for i in range(120):
        fs = ("360", "", "0.5", "9999", "81")[i % 5]
        yield "/classify_signal", {"files": _one(spoilt(table.encode())), "data": {"fs": fs}}
    for _ in range(80):
        sent = {"content": spoilt(document.encode()), "headers": _type("application/json")}
        yield "/classify_signal", sent
    for i in range(20):
        noise = rng.integers(0, 256, 3000, dtype=np.uint8).tobytes()
        yield ("/explain", "/classify_signal")[i % 2], {"files": _one(noise)}


def test_whatever_comes_the_service_neither_fails_nor_hangs(
    client: TestClient, folder: Path
) -> None:
    answered = {200: 0, 422: 0}
    for path, sent in _hostile(folder):
        answer = client.post(path, **sent)
        assert answer.status_code in answered, (path, answer.text)
        answered[answer.status_code] += 1
        if answer.status_code != 200:
            refused(answer)
    assert min(answered.values()) > 40
    body = _record(client, folder)
    assert len(body["beats"]) >= 15


@pytest.mark.real_data
def test_half_an_hour_is_answered_in_time_and_as_offline(client: TestClient, built: Built) -> None:
    named = os.environ.get("ECGBEATS_TEST_MITDB")
    if not named:
        pytest.skip("ECGBEATS_TEST_MITDB names no folder with the MIT-BIH database")
    sent = [("file", (f"106.{k}", (Path(named) / f"106.{k}").read_bytes())) for k in SUFFIXES]
    began = time.monotonic()
    found = client.post("/classify_record", files=sent).json()
    assert time.monotonic() - began < 10
    assert found["comparison"]["sensitivity"] > 0.9
    body = client.post("/classify_record", files=sent, data={"beats": "annotated"}).json()
    records = RecordSet(Path(named), {"106": "106"}, None)
    table = classify_record(built.model, records, SCHEME, Reading(), "106").predictions
    assert_as_offline(table, body)
