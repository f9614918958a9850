from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecgbeats.config import PhysioNetSource
from ecgbeats.errors import ChecksumError, FetchError
from ecgbeats.sources.physionet import SUMS, Patience, fetch_physionet
from tests.support import http_faults
from tests.support.databases import contents, write_database
from tests.support.http_faults import Fault, FaultyServer

pytestmark = pytest.mark.service

SOURCE = PhysioNetSource(
    source="physionet", database="mitdb/1.0.0", licence="ODC-By-1.0", citation="Moody 2001"
)
RECORDS = ("100", "201", "202")
FILES = {"RECORDS"} | {f"{record}.{end}" for record in RECORDS for end in ("hea", "dat", "atr")}
ATTEMPTS = 3

Fetch = Callable[[], dict[str, bytes]]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return write_database(tmp_path / "mirror", RECORDS)


@pytest.fixture
def server(mirror: Path) -> Iterator[FaultyServer]:
    with FaultyServer(mirror) as running:
        yield running


@pytest.fixture
def fetch(server: FaultyServer, tmp_path: Path) -> Fetch:
    def run() -> dict[str, bytes]:
        patience = Patience(ATTEMPTS, first_wait=0.01, connect_timeout=5, read_timeout=0.5)
        fetch_physionet(
            SOURCE, "mitdb", tmp_path / "out", mirror=server.url, workers=4, patience=patience
        )
        return contents(tmp_path / "out")

    return run


def test_http_gives_the_same_bytes_as_a_folder(
    fetch: Fetch, mirror: Path, tmp_path: Path, server: FaultyServer
) -> None:
    fetch_physionet(SOURCE, "mitdb", tmp_path / "copied", mirror=str(mirror))
    assert fetch() == contents(tmp_path / "copied")
    assert sorted(server.requests) == sorted(FILES | {SUMS})


def test_complete_folder_costs_one_request(fetch: Fetch, server: FaultyServer) -> None:
    before = fetch()
    server.requests.clear()
    assert fetch() == before
    assert server.requests == [SUMS]


@pytest.mark.parametrize(
    "fault",
    [
        http_faults.status(503),
        http_faults.status(429),
        http_faults.truncated,
        http_faults.short,
        http_faults.flipped,
        http_faults.reset,
        http_faults.stalled,
    ],
    ids=["503", "429", "truncated", "short", "flipped", "reset", "stalled"],
)
@pytest.mark.parametrize("name", ["201.dat", "RECORDS", "100.hea", "202.atr"])
def test_passing_fault_is_overcome(
    fetch: Fetch, mirror: Path, server: FaultyServer, name: str, fault: Fault
) -> None:
    server.fail(name, *[fault] * (ATTEMPTS - 1))
    files = fetch()
    assert server.count(name) == ATTEMPTS
    assert {n: files[n] for n in FILES} == {n: contents(mirror)[n] for n in FILES}
    assert set(files) == FILES | {SUMS, "dataset.json"}


@pytest.mark.parametrize("fault", [http_faults.status(503), http_faults.truncated])
def test_passing_fault_of_the_first_file_is_overcome(
    fetch: Fetch, server: FaultyServer, fault: Fault
) -> None:
    server.fail(SUMS, fault)
    assert set(fetch()) == FILES | {SUMS, "dataset.json"}


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (http_faults.status(503), FetchError, "expected HTTP status 200, got 503"),
        (http_faults.truncated, FetchError, "the answer broke off: .*more expected"),
        (http_faults.reset, FetchError, "the answer broke off: .*reset"),
        (http_faults.stalled, FetchError, "the answer broke off: .*timed out"),
        (http_faults.flipped, ChecksumError, r"expected SHA-256 \w{64}, got \w{64}"),
        (http_faults.short, ChecksumError, r"expected SHA-256 \w{64}, got \w{64} \(\d+ bytes\)"),
    ],
    ids=["503", "truncated", "reset", "stalled", "flipped", "short"],
)
def test_lasting_fault_is_an_error_and_what_came_stays(
    fetch: Fetch,
    mirror: Path,
    server: FaultyServer,
    tmp_path: Path,
    fault: Fault,
    error: type[FetchError],
    message: str,
) -> None:
    server.always_fail("201.dat", fault)
    with pytest.raises(error) as caught:
        fetch()
    # Not one of the module's own kinds, whose names would reach people.
    assert type(caught.value) is error
    assert caught.match(message)
    assert caught.match(rf"201\.dat: {server.url}/201\.dat: .*tried {ATTEMPTS} times")
    assert server.count("201.dat") == ATTEMPTS

    left = contents(tmp_path / "out")
    assert "201.dat" not in left
    assert "dataset.json" not in left
    assert {"RECORDS", "100.hea", "201.hea", "202.hea"} <= set(left)
    assert left == {name: contents(mirror)[name] for name in left}

    # The fault is gone: the next run asks for the rest alone.
    server.always_fail("201.dat", http_faults.whole)
    server.requests.clear()
    assert set(fetch()) == FILES | {SUMS, "dataset.json"}
    assert sorted(server.requests) == sorted((FILES - set(left)) | {SUMS})


@pytest.mark.parametrize("code", [404, 403])
def test_refused_file_is_asked_for_once(fetch: Fetch, server: FaultyServer, code: int) -> None:
    server.always_fail("201.atr", http_faults.status(code))
    with pytest.raises(FetchError, match=f"201.atr.* expected HTTP status 200, got {code}"):
        fetch()
    assert server.count("201.atr") == 1


def test_lost_sums_never_get_their_name(fetch: Fetch, server: FaultyServer, tmp_path: Path) -> None:
    server.always_fail(SUMS, http_faults.truncated)
    with pytest.raises(FetchError, match=f"{SUMS}: {server.url}") as caught:
        fetch()
    assert type(caught.value) is FetchError
    assert "could not be reached" not in str(caught.value)
    assert contents(tmp_path / "out") == {}


def test_wrong_sum_blames_the_file_and_keeps_it_out(
    fetch: Fetch, mirror: Path, server: FaultyServer, tmp_path: Path
) -> None:
    lines = (mirror / SUMS).read_text().splitlines()
    wrong = ["0" * 64 + line[64:] if line.endswith(" 100.dat") else line for line in lines]
    (mirror / SUMS).write_text("\n".join(wrong))
    with pytest.raises(ChecksumError, match=rf"100\.dat: .*expected SHA-256 {'0' * 64}"):
        fetch()
    assert "100.dat" not in contents(tmp_path / "out")


@pytest.fixture
def nobody() -> Iterator[str]:
    """URL of a port that refuses; it is bound, so that nobody else gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_unreachable_host_says_how_to_give_a_mirror(nobody: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        fetch_physionet(
            SOURCE, "mitdb", tmp_path / "out", mirror=nobody, patience=Patience(2, 0.01)
        )
    assert type(caught.value) is FetchError
    assert caught.match(f"{SUMS}: {nobody}/{SUMS}: .*refused")
    assert caught.match("could not be reached")
    assert caught.match("make run RECIPE=mitdb-aami5 MIRROR=<folder or URL of the same layout>")
    assert contents(tmp_path / "out") == {}


def test_unreachable_host_leaves_a_complete_folder_complete(
    fetch: Fetch, nobody: str, tmp_path: Path
) -> None:
    before = fetch()
    with pytest.raises(FetchError, match="could not be reached"):
        fetch_physionet(SOURCE, "mitdb", tmp_path / "out", mirror=nobody, patience=Patience(1))
    assert contents(tmp_path / "out") == before


def test_password_of_a_mirror_is_not_shown(
    server: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fail("100.dat", http_faults.flipped)
    server.always_fail("201.dat", http_faults.status(404))
    url = server.url.replace("http://", "http://reader:geheim@")
    with pytest.raises(FetchError) as caught:
        fetch_physionet(
            SOURCE, "mitdb", tmp_path / "out", mirror=url, workers=1, patience=Patience(2, 0.01)
        )
    assert "geheim" not in f"{caught.value}{capsys.readouterr().err}"


def test_killed_run_leaves_no_half_file_and_is_taken_up_again(
    fetch: Fetch, mirror: Path, server: FaultyServer, tmp_path: Path
) -> None:
    server.fail("202.atr", http_faults.stalled)
    out = tmp_path / "out"
    program = (
        "import sys; from pathlib import Path\n"
        "from ecgbeats.config import PhysioNetSource\n"
        "from ecgbeats.sources.physionet import fetch_physionet\n"
        "source = PhysioNetSource.model_validate_json(sys.argv[1])\n"
        "fetch_physionet(source, 'mitdb', Path(sys.argv[2]), mirror=sys.argv[3], workers=2)\n"
    )
    command = [sys.executable, "-c", program, SOURCE.model_dump_json(), str(out), server.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        halves: list[Path] = []
        deadline = time.monotonic() + 60
        # All but the one that stalls: the other worker fetches them meanwhile.
        while not (halves and {*contents(out)} >= FILES - {"202.atr"}):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
            halves = list(out.glob(".202.*.partial.atr"))
        process.kill()

    left = {name: data for name, data in contents(out).items() if not name.startswith(".")}
    assert halves[0].exists()
    assert not {"202.atr", "dataset.json"} & set(left)
    assert left == {name: contents(mirror)[name] for name in left}

    server.requests.clear()
    assert set(fetch()) == FILES | {SUMS, "dataset.json"}
    assert sorted(server.requests) == ["202.atr", SUMS]
