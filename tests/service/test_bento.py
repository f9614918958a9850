"""The service, from its class to the built bento over HTTP, with good and hostile requests."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pickle
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest
import yaml
from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

from ecgbeats.errors import ConfigError, ContractError, DataError, ServiceError
from ecgbeats.files import read_json, sha256_file
from ecgbeats.golden import read_golden, write_golden
from ecgbeats.imaging.png import encode_png
from ecgbeats.inference import CARD, ONNX
from pipelines.packaging import BentoAbout, Source, build_bento, served, verify_bento
from pipelines.stored import is_whole, mark_tried, was_tried
from tests.support.bentos import ABOUT, PROJECT, Built
from tests.support.tiny_model import (
    CLASSES,
    SPEC,
    random_images,
    write_tiny_golden,
    write_tiny_model,
)

pytestmark = pytest.mark.service

# What the service must do without: seconds to import and hundreds of megabytes.
HEAVY = (
    "dvc", "great_expectations", "keras", "matplotlib", "mlflow", "onnx", "pandas", "prefect",
    "pyarrow", "sklearn", "tensorflow", "wfdb",
)  # fmt: skip


@pytest.fixture
def store(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    """A copy of the store, to be spoilt."""
    shutil.copytree(built.home, tmp_path / "home")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return replace(built, home=tmp_path / "home")


def _png(image: np.ndarray | None = None, spec_id: str = SPEC.spec_id) -> bytes:
    return encode_png(random_images(1)[0] if image is None else image, spec_id)


def _picture(format: str, size: tuple[int, int] = (16, 16), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 0).save(buffer, format)
    return buffer.getvalue()


def _files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", ("beat.png", content)) for content in contents]


def _refusal(answer: Any, status: int) -> dict[str, Any]:
    """The error that the service answered with, in the one shape that all of them have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"code", "expected", "got", "file"}
    assert error["expected"] and error["got"]
    return error


# The class in this process.


def test_the_class_answers_as_the_offline_model(service: Any, built: Built) -> None:
    images = random_images(7, seed=1)
    answer = asyncio.run(service().classify(file=[_png(image) for image in images]))
    offline = built.classifier.predict(images)
    assert [beat.file for beat in answer.results] == list(range(7))
    assert [beat.label for beat in answer.results] == [CLASSES[k] for k in offline.argmax(axis=1)]
    given = [list(beat.probabilities.values()) for beat in answer.results]
    np.testing.assert_allclose(given, offline, atol=1e-6)


def test_below_the_models_threshold_the_answer_is_uncertain(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = service()
    png = _png(random_images(1)[0])
    (sure,) = asyncio.run(running.classify(file=[png])).results
    assert sure.label == sure.most_probable
    monkeypatch.setitem(running._classifier.card, "answer", {"abstain_below": 1.0})
    (unsure,) = asyncio.run(running.classify(file=[png])).results
    assert unsure.label == "uncertain"
    assert (unsure.most_probable, unsure.probabilities) == (sure.label, sure.probabilities)


def test_the_service_imports_nothing_heavy_and_only_its_own_library(
    built: Built, tmp_path: Path
) -> None:
    (tmp_path / "beat.png").write_bytes(_png())
    code = (
        "import asyncio, json, sys\n"
        "import bento.service, bento.recordings, ecgbeats, ecgbeats.occlusion\n"
        "file = [open(sys.argv[1], 'rb').read()]\n"
        "asyncio.run(bento.service.BeatClassifier().classify(file=file))\n"
        "bento.service.BeatClassifier.to_asgi()\n"
        "print(json.dumps([sorted({m.partition('.')[0] for m in sys.modules}),"
        " ecgbeats.__file__, 'opentelemetry.exporter' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "beat.png")],
        cwd=built.folder / "src",
        capture_output=True,
        text=True,
        check=True,
    )
    modules, library, exports = json.loads(done.stdout.splitlines()[-1])
    assert not exports, "traces go nowhere, unless a setting says where"
    assert not set(HEAVY) & set(modules)
    assert "onnxruntime" in modules
    assert Path(library).is_relative_to(built.folder)


# Good requests.


def test_answers_label_and_probabilities_of_each_image_in_order(
    client: TestClient, built: Built
) -> None:
    images = random_images(9, seed=2)
    answer = client.post("/classify", files=_files(*map(_png, images)))
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == {
        "name": "ecgbeats-tiny",
        "version": "3",
        "recipe": "tiny",
        "spec_id": SPEC.spec_id,
    }
    offline = built.classifier.predict(images)
    assert [result["file"] for result in body["results"]] == list(range(9))
    for result, row in zip(body["results"], offline, strict=True):
        assert result["label"] == CLASSES[int(row.argmax())]
        assert tuple(result["probabilities"]) == CLASSES
        np.testing.assert_allclose(list(result["probabilities"].values()), row, atol=1e-6)


def test_as_many_files_as_allowed(client: TestClient) -> None:
    answer = client.post("/classify", files=_files(*[_png()] * 256))
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 256


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_any_kind_of_png_counts_by_its_grey(client: TestClient, mode: str) -> None:
    black = client.post("/classify", files=_files(_picture("PNG"))).json()["results"]
    buffer = io.BytesIO()
    Image.new(mode, (16, 16), (0, 255) if mode == "LA" else 0).save(buffer, "PNG")
    if mode == "RGBA":  # fully transparent: what lies beneath is white
        white = client.post("/classify", files=_files(_png(np.full((16, 16), 255, np.uint8))))
        black = white.json()["results"]
    answer = client.post("/classify", files=_files(buffer.getvalue()))
    assert answer.json()["results"] == black


def test_jpeg_and_other_sizes(client: TestClient) -> None:
    answer = client.post(
        "/classify", files=_files(_picture("JPEG"), _picture("PNG", (200, 50)), _picture("PNG"))
    )
    assert answer.status_code == 200
    first, *others = [result["probabilities"] for result in answer.json()["results"]]
    assert others == [first, first]


# Refusals.


def _of_other_spec() -> bytes:
    return _png(spec_id="0123456789abcdef")


def _with_text(text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("ecgbeats-spec", text)
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A PNG whose header claims 900 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    claimed = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    png = _png()
    return png[:8] + claimed + png[33:]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(lambda: b"", "not_an_image", id="empty"),
        pytest.param(lambda: b"MLII,V5\n0.1,0.2\n", "not_an_image", id="text"),
        pytest.param(lambda: _picture("GIF"), "not_an_image", id="gif"),
        pytest.param(lambda: _picture("TIFF"), "not_an_image", id="tiff"),
        pytest.param(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "not_an_image", id="eps"),
        pytest.param(lambda: _png()[:8], "not_an_image", id="png signature"),
        pytest.param(lambda: _png()[:-40], "damaged_image", id="truncated png"),
        pytest.param(lambda: _picture("JPEG")[:-200], "damaged_image", id="truncated jpeg"),
        pytest.param(_bomb, "too_many_pixels", id="bomb"),
        pytest.param(lambda: _picture("PNG", (2001, 2000)), "too_many_pixels", id="large"),
        pytest.param(_of_other_spec, "other_spec", id="other spec"),
        pytest.param(lambda: _with_text("\n\x1b" * 4000), "other_spec", id="long spec"),
    ],
)
def test_refuses_a_bad_image_and_says_which(client: TestClient, content: Any, code: str) -> None:
    answer = client.post("/classify", files=_files(_png(), _png(), content()))
    error = _refusal(answer, 422)
    assert (error["code"], error["file"]) == (code, 2)
    assert len(answer.content) < 1000
    assert error["got"].isprintable()


def test_names_expected_and_found_spec(client: TestClient) -> None:
    error = _refusal(client.post("/classify", files=_files(_of_other_spec())), 422)
    assert error["code"] == "other_spec"
    assert SPEC.spec_id in error["expected"]
    assert "0123456789abcdef" in error["got"]


@pytest.mark.parametrize(
    ("request_", "code", "got"),
    [
        pytest.param(
            {"files": [("image", ("a.png", b"x"))]}, "unknown_field", "'image'", id="other field"
        ),
        pytest.param(
            {"files": _files(b"x"), "data": {"spec_id": "1"}},
            "unknown_field",
            "'spec_id'",
            id="extra field",
        ),
        pytest.param({"files": [("file", (None, b"x"))]}, "not_a_file", "text", id="text"),
    ],
)
def test_refuses_another_form(
    client: TestClient, request_: dict[str, Any], code: str, got: str
) -> None:
    error = _refusal(client.post("/classify", **request_), 400)
    assert error["code"] == code
    assert got in error["got"]


@pytest.mark.parametrize(
    ("content", "boundary", "code", "got"),
    [
        pytest.param(b"--b--\r\n", "; boundary=b", "no_file", "none", id="empty form"),
        pytest.param(b"--b--", "; boundary=b", "no_file", "none", id="empty form, no line end"),
        pytest.param(b"", "; boundary=b", "bad_form", "no closing boundary", id="no form"),
        pytest.param(b"--b--", "", "bad_form", "Missing boundary", id="no boundary"),
        pytest.param(b"rubbish", "; boundary=b", "bad_form", "Invalid", id="rubbish"),
        pytest.param(
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
            "; boundary=b",
            "bad_form",
            "no closing boundary",
            id="cut off",
        ),
        pytest.param(
            b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
            "; boundary=b",
            "bad_form",
            '"name" must be provided',
            id="no name",
        ),
        pytest.param(
            b"--b\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
            "; boundary=b",
            "bad_form",
            "Invalid",
            id="many headers",
        ),
    ],
)
def test_refuses_a_broken_form(
    client: TestClient, content: bytes, boundary: str, code: str, got: str
) -> None:
    headers = {"content-type": "multipart/form-data" + boundary}
    error = _refusal(client.post("/classify", content=content, headers=headers), 400)
    assert error["code"] == code
    assert got in error["got"]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("media_type", "got"),
    [
        ("application/json", "'application/json'"),
        # BentoML itself refuses it, and does not say which it was.
        ("application/vnd.bentoml+pickle", "POST /classify"),
        ("Application/Vnd.BentoML+Pickle", "'application/vnd.bentoml+pickle'"),
        ("application/x-www-form-urlencoded", "'application/x-www-form-urlencoded'"),
        ("image/png", "'image/png'"),
        ("text/plain", "'text/plain'"),
        ("", "no content type"),
    ],
)
def test_takes_multipart_forms_alone(
    client: TestClient, media_type: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not(*_: Any, **__: Any) -> Any:
        raise AssertionError("unpickled")

    evil = pickle.dumps(_Evil())
    monkeypatch.setattr(pickle, "loads", must_not)
    answer = client.post("/classify", content=evil, headers={"content-type": media_type})
    error = _refusal(answer, 415)
    assert error["code"] == "unsupported_media_type"
    assert (error["expected"], error["got"]) == ("multipart/form-data", got)


@pytest.mark.parametrize("media_type", ["multipart/form-data", "application/json", "text/plain"])
def test_fetches_no_address_it_is_given(client: TestClient, media_type: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/beat.png"
        if media_type == "multipart/form-data":
            answer = client.post("/classify", files=[("file", (None, url))])
        else:
            answer = client.post("/classify", content=url, headers={"content-type": media_type})
        assert 400 <= answer.status_code < 500
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_limits_number_and_size_of_files_and_request(client: TestClient) -> None:
    mebibyte = bytes(1024**2)
    many = client.post("/classify", files=_files(*[b"x"] * 257))
    error = _refusal(many, 413)
    assert error["code"] == "too_many_files" and "256" in error["expected"]
    large = client.post("/classify", files=_files(_png(), mebibyte * 4 + b"x"))
    error = _refusal(large, 413)
    assert (error["code"], error["file"]) == ("file_too_large", 1)
    assert f"{4 * 1024**2} bytes a file" in error["expected"]
    heavy = client.post("/classify", files=_files(*[mebibyte * 4] * 8))
    error = _refusal(heavy, 413)
    assert error["code"] == "request_too_large"
    assert f"{32 * 1024**2} bytes a request" in error["expected"]
    text = client.post("/classify", data={"file": "x" * 2 * 1024**2})
    error = _refusal(text, 415)
    assert error["code"] == "unsupported_media_type"
    assert error["got"] == "'application/x-www-form-urlencoded'"


def test_writes_no_upload_to_disk_or_log(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def must_not(*_: Any, **__: Any) -> Any:
        raise AssertionError("a temporary file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, must_not)
    caplog.set_level("DEBUG")
    largest = b"jane-doe-content" * (4 * 1024**2 // 16)
    answer = client.post("/classify", files=[("file", ("jane-doe.png", largest))])
    assert _refusal(answer, 422)["code"] == "not_an_image"
    answer = client.post("/classify", files=[("jane-doe", ("jane-doe.png", b"jane-doe"))])
    assert _refusal(answer, 400)["code"] == "unknown_field"
    assert client.post("/classify", files=[("file", ("jane-doe.png", _png()))]).is_success
    written = capsys.readouterr().out
    said = [json.loads(line) for line in written.splitlines()]
    assert [line["event"] for line in said] == ["answered", "answered", "classified", "answered"]
    answered = [line for line in said if line["event"] == "answered"]
    assert [line["code"] for line in answered] == ["not_an_image", "unknown_field", None]
    assert "Traceback" not in caplog.text
    assert "jane-doe" not in written + caplog.text


def test_other_paths_and_methods_have_the_same_shape(client: TestClient) -> None:
    nowhere = _refusal(client.post("/nowhere"), 404)
    assert nowhere["code"] == "not_found" and "/nowhere" in nowhere["got"]
    wrong = client.get("/classify")
    error = _refusal(wrong, 405)
    assert error["code"] == "method_not_allowed" and "GET /classify" in error["got"]
    assert wrong.headers["allow"] == "POST"


def test_spoilt_images_never_make_the_service_fail(client: TestClient) -> None:
    rng = np.random.default_rng(5)
    seeds = [_png(), _picture("JPEG"), _picture("PNG", mode="P"), _of_other_spec()]
    for i in range(400):
        content = bytearray(seeds[i % len(seeds)])
        for _ in range(int(rng.integers(1, 8))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        if i % 3 == 0:
            del content[int(rng.integers(8, len(content))) :]
        answer = client.post("/classify", files=_files(bytes(content)))
        if answer.status_code != 200:
            error = _refusal(answer, 422)
            assert error["code"] in (
                "not_an_image",
                "damaged_image",
                "too_many_pixels",
                "other_spec",
            )
            assert len(answer.content) < 500 and error["got"].isprintable()
    assert client.post("/classify", files=_files(_png())).is_success


def test_images_of_many_pixels_together_are_refused_before_they_are_decoded(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = _picture("JPEG", (300, 300))
    monkeypatch.setattr(sys.modules["bento.pixels"], "MAX_REQUEST_PIXELS", 250_000)
    answer = client.post("/classify", files=_files(*[picture] * 3))
    error = _refusal(answer, 413)
    assert (error["code"], error["file"]) == ("too_many_pixels", 2)
    # Fewer are answered, and what is no image is told so.
    assert client.post("/classify", files=_files(picture, picture)).is_success
    other = client.post("/classify", files=_files(b"x", *[picture] * 2))
    assert _refusal(other, 422)["code"] == "not_an_image"


def test_openapi_describes_request_and_answer(client: TestClient) -> None:
    spec = client.get("/docs.json").json()
    post = spec["paths"]["/classify"]["post"]
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["file"]["type"] == "array"
    assert form["properties"]["file"]["items"] == {"type": "string", "format": "binary"}
    schemas = spec["components"]["schemas"]
    assert set(schemas["Classification"]["required"]) == {"model", "results"}
    assert set(schemas["Beat"]["required"]) == {"file", "label", "most_probable", "probabilities"}


def test_openapi_describes_every_endpoint_with_types_and_examples(client: TestClient) -> None:
    spec = client.get("/docs.json").json()
    for path, method, answer in (
        ("/classify", "post", "Classification"),
        ("/classify_signal", "post", "RecordClassification"),
        ("/classify_record", "post", "RecordClassification"),
        ("/model", "get", "Card"),
    ):
        operation = spec["paths"][path][method]
        assert operation["description"]
        assert answer in json.dumps(operation["responses"]["200"]) or (
            operation["responses"]["200"]["content"]["application/json"]["schema"]["title"]
            == answer
        )
    assert "image/png" in spec["paths"]["/explain"]["post"]["responses"]["200"]["content"]
    fields = spec["paths"]["/classify_signal"]["post"]["requestBody"]["content"]
    properties = fields["multipart/form-data"]["schema"]["properties"]
    assert set(properties) == {"file", "fs", "units", "gain", "lead", "trace", "pictures"}
    assert all(properties[name].get("examples") for name in properties if name != "file")
    beat = spec["components"]["schemas"]["RecordedBeat"]["properties"]
    assert all(beat[name].get("examples") for name in beat)


def test_openapi_describes_samples_as_a_body_too(client: TestClient) -> None:
    operation = client.get("/docs.json").json()["paths"]["/classify_signal"]["post"]
    bodies = operation["requestBody"]["content"]
    assert set(bodies) == {"multipart/form-data", "text/csv", "application/json"}
    said = {each["name"]: each for each in operation["parameters"]}
    assert set(said) == {"fs", "units", "gain", "lead", "trace", "pictures"}
    assert all(each["in"] == "query" and each["description"] for each in said.values())
    # As they stand there, but longer than they are in an example.
    beats = [*range(300, 3600, 300)]
    example = bodies["application/json"]["example"]
    samples = [[lead[0] + (k in beats) for k in range(3600)] for lead in example["samples"]]
    query = {"fs": 360, "units": "mV", "lead": example["lead"][1], "trace": True, "pictures": "0,1"}
    assert set(query) < set(said)
    answer = client.post(
        "/classify_signal", params=query, json={**example, "samples": samples, "beats": beats}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["recording"]["lead"] == "V1" and len(answer.json()["pictures"]) == 2
    csv = bodies["text/csv"]["example"]
    sent = {"content": csv, "headers": {"content-type": "text/csv"}}
    # It is read; and is a lead that stands still.
    refused = _refusal(client.post("/classify_signal", params={"fs": 360}, **sent), 422)
    assert refused["code"] == "unusable_recording" and "MLII" in refused["got"]


def test_openapi_describes_refusals_as_they_come(client: TestClient) -> None:
    spec = client.get("/docs.json").json()
    refused = jsonschema_of(spec, "Refusal")
    for path in ("/classify", "/classify_signal", "/classify_record", "/explain"):
        answers = spec["paths"][path]["post"]["responses"]
        assert set(answers) == {"200", "4XX", "5XX"}
        for status in ("4XX", "5XX"):
            content = answers[status]["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Refusal"}
            jsonschema.validate(content["example"], refused)
    jsonschema.validate(client.post("/classify", files=_files(b"x")).json(), refused)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"error": "no image", "detail": ""}, refused)
    # Nothing is referred to that is not there.
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(spec)))
    assert named <= set(spec["components"]["schemas"])


def jsonschema_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": spec["components"]}


# The bento in the store.


def test_the_bento_says_what_it_holds(built: Built) -> None:
    bento = yaml.safe_load((built.folder / "bento.yaml").read_text())
    assert f"{bento['name']}:{bento['version']}" == built.tag == ABOUT.tag
    assert ABOUT.labels.items() <= bento["labels"].items()
    assert (built.folder / "src" / "golden.npz").read_bytes() == built.golden.read_bytes()
    assert not list(built.folder.rglob(".bentoml")) and not list(built.folder.rglob("*.keras"))
    lines = (built.folder / "env" / "python" / "requirements.txt").read_text().split("\n")
    packages = {line.partition(";")[0].strip() for line in lines if line}
    assert all(package.count("==") == 1 for package in packages)
    names = {package.partition("==")[0] for package in packages}
    assert {"bentoml", "numpy", "onnxruntime", "pillow", "pydantic", "scipy"} <= names
    assert not names & {"great-expectations", "scikit-learn", *HEAVY}


def test_building_again_builds_nothing(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (built.folder / "bento.yaml").read_bytes()
    monkeypatch.setattr(sys, "executable", "/nonexistent")  # what would build
    assert (
        build_bento(built.model, built.golden, ABOUT, project=PROJECT, beside=built.beside)
        == built.tag
    )
    assert (built.folder / "bento.yaml").read_bytes() == before


def test_a_tag_never_gets_another_content(built: Built, tmp_path: Path) -> None:
    others = BentoAbout(ABOUT.name, ABOUT.version, {**ABOUT.labels, "git_commit": "0000000"})
    with pytest.raises(ServiceError, match=r"git_commit: expected 0000000, found 8e6c9d1"):
        build_bento(built.model, built.golden, others, project=PROJECT, beside=built.beside)
    other = write_tiny_model(tmp_path / "model", seed=1)
    write_tiny_golden(tmp_path / "golden.npz", other)
    with pytest.raises(ServiceError, match="content_sha256: expected"):
        build_bento(tmp_path / "model", tmp_path / "golden.npz", ABOUT, project=PROJECT)


def test_a_damaged_bento_is_not_whole_and_is_made_anew(store: Built) -> None:
    def build() -> None:
        build_bento(store.model, store.golden, ABOUT, project=PROJECT, beside=store.beside)

    network = next((store.home / "models" / ABOUT.name).rglob(ONNX))
    beside = next((store.home / "models" / store.beside.about.name).rglob(ONNX))
    code = store.folder / "src" / "bento" / "service.py"
    other = store.beside.folder
    assert is_whole(store.folder, with_golden(store)) and not is_whole(store.folder, other)
    mark_tried(store.folder)
    for path in (network, beside, code, store.folder / "bento.yaml"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 3])
        assert not is_whole(store.folder), path
        if path == network:
            continue
        path.write_bytes(content)
    # Of what was damaged, no more is replaced; the new bento was not tried yet.
    inode = beside.stat().st_ino
    build()
    assert is_whole(store.folder) and sha256_file(network) == sha256_file(store.model / ONNX)
    assert beside.stat().st_ino == inode and not was_tried(store.folder)
    assert not list(store.home.glob(".building-*"))
    shutil.rmtree(store.home / "models")
    assert not is_whole(store.folder)


def with_golden(built: Built) -> Path:
    """The model folder as the registry gives it."""
    folder = built.home / "registered"
    shutil.copytree(built.model, folder)
    shutil.copyfile(built.golden, folder / "golden.npz")
    return folder


def test_two_versions_live_side_by_side(store: Built) -> None:
    newer = BentoAbout(ABOUT.name, "4-8e6c9d1-3f2a91c", {**ABOUT.labels, "model_version": "4"})
    shouted = replace(newer, name=newer.name.upper())
    assert (
        build_bento(store.model, store.golden, shouted, project=PROJECT, beside=store.beside)
        == newer.tag
    )
    assert sorted(path.name for path in store.folder.parent.iterdir()) == [
        ABOUT.version,
        newer.version,
        "latest",
    ]
    assert (store.folder.parent / "latest").read_text() == newer.version
    # One model, whatever the number of bentos that hold it.
    assert len([p for p in (store.home / "models" / ABOUT.name).iterdir() if p.is_dir()]) == 1


def test_a_failed_build_leaves_nothing(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "src", project / "src", ignore=ignore)
    shutil.copytree(PROJECT / "bento", project / "bento", ignore=ignore)
    for name in ("LICENSE", "README.md", "pyproject.toml", "uv.lock"):
        shutil.copy(PROJECT / name, project / name)
    with (project / "bento" / "service.py").open("a") as file:
        file.write('\nraise RuntimeError("spoilt on purpose")\n')
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    with pytest.raises(ServiceError, match="spoilt on purpose"):
        build_bento(built.model, built.golden, ABOUT, project=project)
    assert list((tmp_path / "home").iterdir()) == []


def test_model_and_golden_batch_must_belong_together(built: Built, tmp_path: Path) -> None:
    golden = read_golden(built.golden)
    write_golden(tmp_path / "golden.npz", replace(golden, spec_id="0123456789abcdef"))
    with pytest.raises(ContractError, match="0123456789abcdef"):
        build_bento(
            built.model, tmp_path / "golden.npz", ABOUT, project=PROJECT, beside=built.beside
        )
    with pytest.raises(DataError, match=CARD):
        build_bento(tmp_path, built.golden, ABOUT, project=PROJECT)


def test_only_a_model_for_plain_pictures_goes_beside_another(built: Built) -> None:
    same = Source(built.model, built.golden, ABOUT)
    with pytest.raises(ContractError, match="plain pictures"):
        build_bento(built.model, built.golden, ABOUT, project=PROJECT, beside=same)


def test_wants_to_know_its_store(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENTOML_HOME")
    with pytest.raises(ConfigError, match="BENTOML_HOME"):
        build_bento(built.model, built.golden, ABOUT, project=PROJECT, beside=built.beside)


# The built bento, served.


def _serving(built: Built) -> list[psutil.Process]:
    """Processes that serve the bento for these tests: others may serve one of that name."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if any(built.tag in part for part in process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("STARTED_BY_TESTS_OF") == str(built.model.parent)
    ]


def test_the_bento_reproduces_the_golden_batch(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever the services of this machine are set to, and without touching what they count.
    monkeypatch.setenv("ECGBEATS_API_KEYS", f"ward:{'0' * 64}")
    monkeypatch.setenv("ECGBEATS_MAX_FILES", "2")
    counters = built.home / "prometheus_multiproc_dir"
    counters.mkdir(exist_ok=True)
    (counters / "counter_1.db").write_bytes(b"of a service that runs")
    verified = verify_bento(built.tag, built.golden, beside=built.beside.golden)
    assert verified.tag == built.tag
    assert was_tried(built.folder)
    assert verified.images == 5 + 5
    assert verified.greatest_difference <= 1e-5
    assert (counters / "counter_1.db").read_bytes() == b"of a service that runs"
    assert not _serving(built)


def test_a_bento_that_answers_otherwise_is_refused(built: Built, tmp_path: Path) -> None:
    golden = read_golden(built.golden)
    answers = golden.probabilities.copy()
    answers[3, 0] += 0.25
    write_golden(tmp_path / "golden.npz", replace(golden, probabilities=answers))
    with pytest.raises(ServiceError, match=r"differ .* by up to 2\.5e-01"):
        verify_bento(built.tag, tmp_path / "golden.npz")
    assert not _serving(built)


def test_a_tampered_network_is_refused_at_start(store: Built) -> None:
    network = next((store.home / "models").rglob(ONNX))
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    with pytest.raises(ServiceError, match="expected SHA-256"):
        verify_bento(store.tag, store.golden)
    assert not _serving(store)


def test_a_network_with_a_card_to_match_is_refused_too(store: Built, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "other", seed=1)
    folder = next((store.home / "models").rglob(ONNX)).parent
    for name in (CARD, ONNX):
        shutil.copyfile(tmp_path / "other" / name, folder / name)
    assert read_json(folder / CARD)["onnx_sha256"] == sha256_file(folder / ONNX)
    with pytest.raises(ServiceError, match=r"model\.json: expected SHA-256"):
        verify_bento(store.tag, store.golden)


def test_bentomls_own_client_and_store_know_the_bento(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bentoml
    from bentoml.exceptions import UnprocessableEntity

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    listed = subprocess.run(
        [sys.executable, "-m", "bentoml", "list", "-o", "json"],
        env={**os.environ, "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [row["tag"] for row in json.loads(listed.stdout)] == [built.tag]
    golden = read_golden(built.golden)
    paths = [tmp_path / f"{i}.png" for i in range(len(golden.images))]
    for path, image in zip(paths, golden.images, strict=True):
        path.write_bytes(_png(image))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with served(built.tag) as (url, _), bentoml.SyncHTTPClient(url) as client:
        assert _serving(built)
        answer = client.classify(file=paths)
        with pytest.raises(UnprocessableEntity, match="not_an_image"):
            client.classify(file=[tmp_path / "bad.png"])
        record = [
            PROJECT / "bento" / "page" / "samples" / f"s002.{k}" for k in ("hea", "dat", "atr")
        ]
        recorded = client.classify_record(file=record, beats="annotated", pictures=[0, 5])
        listed_beats = client.classify_signal(file=[record[0].with_name("one-lead.csv")])["beats"]
        explained = client.explain(file=[paths[0]], label=CLASSES[0])
        by_default = [client.explain(file=[paths[0]], label=given) for given in (None, "")]
    assert len(recorded["beats"]) == 75 and len(recorded["pictures"]) == 2
    assert len(listed_beats) > 30 and explained.size == (16 * 6, 16 * 6)
    assert [picture.size for picture in by_default] == [explained.size] * 2
    given = [list(result["probabilities"].values()) for result in answer["results"]]
    np.testing.assert_allclose(given, golden.probabilities, atol=1e-5)


def test_an_unknown_bento_is_named(built: Built) -> None:
    with pytest.raises(ServiceError, match=r"ecgbeats-none:1: does not start"):
        verify_bento("ecgbeats-none:1", built.golden)
