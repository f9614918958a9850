"""Each fault of a dataset is caught by the check meant for it, and by no other critical one."""

import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgbeats import blocks
from ecgbeats.datasets import Manifest, RecordEntry, write_manifest
from ecgbeats.errors import ConfigError, DataError, ValidationFailed
from ecgbeats.files import read_json, sha256_tree
from ecgbeats.labels import LabelScheme
from ecgbeats.validation import Finding, Limits, Summary, validate_dataset

pytestmark = pytest.mark.unit

SCHEME = LabelScheme(source="test", classes={"N": "NLR", "S": "A", "V": "V"})
LIMITS = Limits(class_beats=10)
NAMES = ("p1", "p2", "p3")
SECONDS = 60
# WFDB annotation codes (ecgcodes.h).
NORMAL, SKIP, UNDEFINED = 1, 59, 45


def ecg(fs: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal in mV, shape (samples, 2), with a beat every 0.8 s; beat positions and symbols."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(SECONDS * fs)) / fs
    beats = np.arange(0.4, SECONDS - 0.4, 0.8)
    to_beat = time[:, None] - beats
    lead = (1.2 * np.exp(-((to_beat / 0.02) ** 2) / 2)).sum(axis=1)
    signal = np.stack([lead, -0.6 * lead], axis=1) + rng.normal(0, 0.02, (len(time), 2))
    symbols = np.where(np.arange(len(beats)) % 5 == 2, "V", "N")
    symbols[3::10] = "A"
    return signal, np.round(beats * fs).astype(int), symbols


def write_record(
    folder: Path,
    name: str,
    *,
    fs: float = 360,
    leads: Sequence[str] = ("MLII", "V1"),
    unit: str = "mV",
    change: Callable[[np.ndarray], None] | None = None,
    sample: np.ndarray | None = None,
    symbol: np.ndarray | None = None,
) -> None:
    signal, beats, symbols = ecg(fs, seed=ord(name[-1]))
    if change is not None:
        change(signal)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=[unit] * 2,
        sig_name=list(leads),
        p_signal=signal,
        fmt=["212", "212"],
        adc_gain=[200, 200],
        baseline=[0, 0],
        write_dir=str(folder),
    )
    wfdb.wrann(
        name,
        "atr",
        beats if sample is None else sample,
        symbols if symbol is None else symbol,
        write_dir=str(folder),
    )


def write_dataset(folder: Path, records: Sequence[str] = NAMES, synthetic: bool = False) -> None:
    folder.mkdir()
    for name in dict.fromkeys(records):
        write_record(folder, name)
    write_manifest(
        folder,
        Manifest(
            name="little",
            source="https://example.org/little",
            version="1",
            licence="CC0",
            citation="nobody",
            synthetic=synthetic,
            annotator="atr",
            records=tuple(RecordEntry(record=name, patient=f"{name}-person") for name in records),
        ),
    )


def write_annotation_file(folder: Path, name: str, steps: Sequence[tuple[int, int]]) -> None:
    """Steps in samples and codes, as WFDB's annot(5) lays them out, which wrann would refuse."""
    words = b""
    for step, code in steps:
        if not 0 <= step < 1024:
            words += struct.pack("<HHH", SKIP << 10, (step >> 16) & 0xFFFF, step & 0xFFFF)
            step = 0
        words += struct.pack("<H", code << 10 | step)
    (folder / f"{name}.atr").write_bytes(words + b"\0\0")


def change_header(folder: Path, name: str, old: str, new: str) -> None:
    header = folder / f"{name}.hea"
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "little"
    write_dataset(folder)
    return folder


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Summary]:
    def run(folder: Path, **options: object) -> Summary:
        options = {"limits": LIMITS, "workers": 1} | options
        return validate_dataset(folder, SCHEME, tmp_path / "out", **options)  # type: ignore[arg-type]

    return run


def critical(summary: Summary) -> set[str]:
    return {outcome.name for outcome in summary.failed("critical")}


def warned(summary: Summary) -> set[str]:
    return {outcome.name for outcome in summary.failed("warning")}


def only(summary: Summary, name: str) -> Finding:
    """The one finding of expectation `name`."""
    (finding,) = summary.outcome(name).examples
    return finding


def test_a_sound_dataset_passes_without_a_warning(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    summary = check(dataset)

    assert critical(summary) == set()
    assert warned(summary) == set()
    assert summary.ok
    summary.raise_if_critical()


@pytest.mark.parametrize("suffix", ["dat", "hea", "atr"])
def test_a_missing_file_is_named(suffix: str, dataset: Path, check: Callable[..., Summary]) -> None:
    (dataset / f"p2.{suffix}").unlink()

    summary = check(dataset)

    assert critical(summary) == {"files_complete"}
    assert only(summary, "files_complete") == Finding({"record": "p2"}, f"p2.{suffix}")


def test_a_header_that_tells_fewer_samples_than_there_are(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    change_header(dataset, "p2", " 21600", " 21500")

    summary = check(dataset)

    assert critical(summary) == {"header_length"}
    assert only(summary, "header_length") == Finding({"record": "p2"}, 100.0)


def test_a_header_that_tells_more_samples_than_there_are(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    change_header(dataset, "p2", " 21600", " 21700")

    summary = check(dataset)

    assert critical(summary) == {"header_length", "signals_readable"}
    assert only(summary, "header_length") == Finding({"record": "p2"}, -100.0)


def test_all_bad_records_are_reported_in_one_run(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    (dataset / "p1.hea").write_text("no header\n")
    change_header(dataset, "p3", "/mV", "/degC")

    summary = check(dataset)

    assert critical(summary) == {"signals_readable"}
    assert set(summary.outcome("signals_readable").found_in) == {"p1", "p3"}


def test_an_undefined_annotation_code(dataset: Path, check: Callable[..., Summary]) -> None:
    steps = [(288, NORMAL)] * 70
    steps[10] = (288, UNDEFINED)
    write_annotation_file(dataset, "p2", steps)

    summary = check(dataset)

    assert critical(summary) == {"symbols_known"}
    assert only(summary, "symbols_known").at == {"record": "p2", "sample": 11 * 288}


def test_an_annotation_past_the_end(dataset: Path, check: Callable[..., Summary]) -> None:
    _, sample, symbol = ecg(360, 0)
    write_record(
        dataset, "p2", sample=np.append(sample, SECONDS * 360 + 359), symbol=np.append(symbol, "N")
    )

    summary = check(dataset)

    assert critical(summary) == {"inside_record"}
    assert only(summary, "inside_record") == Finding({"record": "p2", "sample": 21959}, 1.0)


def test_the_last_sample_is_inside(dataset: Path, check: Callable[..., Summary]) -> None:
    _, sample, symbol = ecg(360, 0)
    write_record(dataset, "p2", sample=np.append(sample, 21599), symbol=np.append(symbol, "N"))

    assert check(dataset).ok


def test_annotations_out_of_order(dataset: Path, check: Callable[..., Summary]) -> None:
    steps = [(288, NORMAL)] * 70
    steps[10:12] = [(-100, NORMAL), (388, NORMAL)]
    write_annotation_file(dataset, "p2", steps)

    summary = check(dataset)

    assert critical(summary) == {"in_order"}
    assert only(summary, "in_order") == Finding({"record": "p2", "sample": 2780}, -100.0)


def test_two_beats_at_one_sample(dataset: Path, check: Callable[..., Summary]) -> None:
    steps = [(288, NORMAL)] * 70
    steps[10] = (0, NORMAL)
    write_annotation_file(dataset, "p2", steps)

    summary = check(dataset)

    assert critical(summary) == {"beats_apart"}
    assert only(summary, "beats_apart").at == {"record": "p2", "sample": 2880}


def test_a_table_in_blocks_is_judged_as_a_whole(
    dataset: Path, check: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sample, symbol = ecg(360, 0)
    # Of one record symbols are not known; of two an interval is too long, which is more than the
    # share of their own blocks that may be, less than that of the whole.
    undefined = [(288, NORMAL)] * 70
    undefined[10:50] = [(288, UNDEFINED)] * 40
    write_annotation_file(dataset, "p1", undefined)
    write_record(dataset, "p2", sample=np.delete(sample, range(20, 26)), symbol=symbol[6:])
    limits = LIMITS.model_copy(update={"rr_share": 0.985})
    for exclude in ((), ("p1",), ("p2", "p3")):
        whole = check(dataset, limits=limits, exclude=exclude)
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "_ROWS", 1)
            assert check(dataset, limits=limits, exclude=exclude) == whole
        bad = whole.outcome("symbols_known" if "p1" not in exclude else "symbols_known_excluded")
        assert bad.unexpected == 40 and len(bad.examples) == 20 and set(bad.found_in) == {"p1"}
        intervals = whole.outcome("rr_intervals")
        assert intervals.success and intervals.unexpected == 2


def test_a_record_without_beats(dataset: Path, check: Callable[..., Summary]) -> None:
    write_record(dataset, "p2", sample=np.array([20]), symbol=np.array(["+"]))

    assert critical(check(dataset)) == {"enough_beats"}


@pytest.mark.parametrize(
    ("share", "expected_critical"), [(0.01, set()), (0.2, {"missing_samples"})]
)
def test_missing_samples(
    share: float,
    expected_critical: set[str],
    dataset: Path,
    check: Callable[..., Summary],
) -> None:
    def change(signal: np.ndarray) -> None:
        signal[1000 : 1000 + int(share * len(signal)), 1] = np.nan

    write_record(dataset, "p2", change=change)

    summary = check(dataset)

    assert critical(summary) == expected_critical
    assert warned(summary) == {"no_missing_samples"}
    finding = only(summary, "no_missing_samples")
    assert finding == Finding({"record": "p2", "lead": "V1"}, pytest.approx(share))


@pytest.mark.parametrize(("seconds", "expected_critical"), [(3, set()), (45, {"dead_lead"})])
def test_a_flat_lead(
    seconds: int, expected_critical: set[str], dataset: Path, check: Callable[..., Summary]
) -> None:
    def change(signal: np.ndarray) -> None:
        signal[1000 : 1000 + seconds * 360, 1] = 0.25

    write_record(dataset, "p2", change=change)

    summary = check(dataset)

    assert critical(summary) == expected_critical
    assert warned(summary) == {"flat_stretch"}
    finding = only(summary, "flat_stretch")
    assert finding == Finding({"record": "p2", "lead": "V1"}, pytest.approx(seconds, abs=1.5 / 360))


@pytest.mark.parametrize(
    ("share", "expected_critical"), [(0.005, set()), (0.1, {"saturated_lead"})]
)
@pytest.mark.parametrize("limit_mv", [2047 / 200, -2047 / 200])
def test_a_saturated_lead(
    limit_mv: float,
    share: float,
    expected_critical: set[str],
    dataset: Path,
    check: Callable[..., Summary],
) -> None:
    def change(signal: np.ndarray) -> None:
        signal[1000 : 1000 + int(share * len(signal)), 0] = limit_mv

    write_record(dataset, "p2", change=change)
    if limit_mv < 0:
        # The lowest code of format 212 means "missing": let the ADC's range end above it.
        change_header(dataset, "p2", "/mV 12 0", "/mV 12 1")

    summary = check(dataset)

    assert critical(summary) == expected_critical
    # Standing at the limit is saturation, not a flat stretch too.
    assert warned(summary) == {"saturated_samples", "amplitude"}
    finding = only(summary, "saturated_samples")
    assert finding == Finding({"record": "p2", "lead": "MLII"}, pytest.approx(share))


def test_a_wrong_unit(dataset: Path, check: Callable[..., Summary]) -> None:
    write_record(dataset, "p2", unit="V")

    assert critical(check(dataset)) == {"amplitude_unit"}


@pytest.mark.parametrize(("fs", "expected_critical"), [(250, set()), (50, {"sampling_rate"})])
def test_an_odd_sampling_rate(
    fs: int, expected_critical: set[str], dataset: Path, check: Callable[..., Summary]
) -> None:
    write_record(dataset, "p2", fs=fs)

    summary = check(dataset)

    assert critical(summary) == expected_critical
    assert warned(summary) == {"one_sampling_rate"}
    assert only(summary, "one_sampling_rate") == Finding({"record": "p2"}, float(fs))


def test_a_sampling_rate_that_does_not_fit_the_annotations(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    change_header(dataset, "p2", " 360 ", " 1500 ")

    summary = check(dataset, limits=Limits(class_beats=10, duration_s=10))

    assert critical(summary) == {"rr_median"}


def test_lead_names(dataset: Path, check: Callable[..., Summary]) -> None:
    write_record(dataset, "p1", leads=("V1", "MLII"))
    change_header(dataset, "p2", " V1", " MLII")
    write_record(dataset, "p3", leads=("MLII", "left foot"))

    summary = check(dataset)

    assert critical(summary) == {"lead_names_unique"}
    assert only(summary, "lead_names_unique") == Finding({"record": "p2"}, "MLII")
    assert warned(summary) == {"same_first_lead", "lead_names_known"}
    assert only(summary, "same_first_lead") == Finding({"record": "p1"}, "V1")
    assert only(summary, "lead_names_known").at == {"record": "p3", "lead": "left foot"}


def test_a_record_without_the_usual_lead(dataset: Path, check: Callable[..., Summary]) -> None:
    write_record(dataset, "p2", leads=("MLIII", "V1"))
    write_record(dataset, "p3", leads=("MLII", "V5"))

    summary = check(dataset)

    # MLII is not found in MLIII.
    assert only(summary, "has_usual_lead") == Finding({"record": "p2"}, "MLIII, V1")


def test_a_long_pause_is_a_warning(dataset: Path, check: Callable[..., Summary]) -> None:
    _, sample, symbol = ecg(360, 0)
    keep = np.r_[0:20, 24:44, 48 : len(sample)]
    write_record(dataset, "p2", sample=sample[keep], symbol=symbol[keep])

    summary = check(dataset)

    assert critical(summary) == set()
    assert warned(summary) == {"rr_longest"}
    assert summary.outcome("rr_intervals").found_in == {"p2": 2}


def test_annotations_that_stop_half_way(dataset: Path, check: Callable[..., Summary]) -> None:
    _, sample, symbol = ecg(360, 0)
    write_record(dataset, "p2", sample=sample[:40], symbol=symbol[:40])

    summary = check(dataset)

    assert critical(summary) == set()
    assert warned(summary) == {"annotated_to_the_end"}


def test_a_record_named_twice(tmp_path: Path, check: Callable[..., Summary]) -> None:
    write_dataset(tmp_path / "twice", ("p1", "p2", "p2"))

    summary = check(tmp_path / "twice")

    assert critical(summary) == {"record_names_unique"}
    assert set(summary.outcome("record_names_unique").found_in) == {"p2"}


def test_no_record_at_all(tmp_path: Path, check: Callable[..., Summary]) -> None:
    write_dataset(tmp_path / "empty", ())

    assert critical(check(tmp_path / "empty")) == {"some_records"}


def test_no_manifest(tmp_path: Path, check: Callable[..., Summary]) -> None:
    with pytest.raises(DataError, match=r"dataset\.json"):
        check(tmp_path)


def test_a_class_of_excluded_records_is_missing(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    for name in ("p1", "p2"):
        *_, symbol = ecg(360, 0)
        write_record(dataset, name, symbol=np.where(symbol == "V", "N", symbol))

    one_patient = check(dataset)
    none = check(dataset, exclude=("p3",))

    assert warned(one_patient) == {"class_patients"}
    assert only(one_patient, "class_patients") == Finding({"label": "V"}, 1)
    assert warned(none) == {"class_present", "class_beats", "class_patients"}
    assert only(none, "class_present") == Finding({"label": "V"}, 0)


def test_what_is_critical_is_a_warning_for_an_excluded_record(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    def kill(signal: np.ndarray) -> None:
        signal[:, 1] = 0.25

    write_record(dataset, "p2", change=kill)
    steps = [(288, NORMAL)] * 70
    steps[10] = (288, UNDEFINED)
    write_annotation_file(dataset, "p2", steps)
    (dataset / "p3.dat").unlink()

    both = check(dataset, exclude=("p2", "p3"))
    one = check(dataset, exclude=("p2",))

    assert critical(both) == set()
    both.raise_if_critical()
    assert {name for name in warned(both) if name.endswith("_excluded")} == {
        "dead_lead_excluded",
        "amplitude_unit_excluded",
        "symbols_known_excluded",
        "files_complete_excluded",
    }
    assert only(both, "dead_lead_excluded").at == {"record": "p2", "lead": "V1"}
    assert critical(one) == {"files_complete"}
    assert only(one, "files_complete") == Finding({"record": "p3"}, "p3.dat")


def test_all_records_excluded(dataset: Path, check: Callable[..., Summary]) -> None:
    (dataset / "p3.dat").unlink()

    summary = check(dataset, exclude=NAMES)

    assert critical(summary) == set()
    assert "files_complete_excluded" in warned(summary)


def test_an_excluded_record_that_is_not_there_is_named(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    with pytest.raises(ConfigError, match=r"records of little \(p1, p2, p3\), got 1O2"):
        check(dataset, exclude=("p1", "1O2"))


def test_the_error_names_expectation_record_and_value(
    dataset: Path, check: Callable[..., Summary], tmp_path: Path
) -> None:
    (dataset / "p1.atr").unlink()
    _, sample, symbol = ecg(360, 0)
    write_record(dataset, "p2", sample=np.append(sample, 21959), symbol=np.append(symbol, "N"))

    summary = check(dataset)

    # The reports are there before anything raises.
    assert read_json(tmp_path / "out" / "validation.json")["ok"] is False
    assert (tmp_path / "out" / "index.html").is_file()
    with pytest.raises(ValidationFailed) as raised:
        summary.raise_if_critical()
    assert str(raised.value) == (
        "dataset little: 2 critical expectations fail: files_complete [record p1: p1.atr]; "
        "inside_record [record p2, sample 21959: 1 s]"
    )


def test_the_error_is_short_however_much_is_wrong(
    dataset: Path, check: Callable[..., Summary]
) -> None:
    write_annotation_file(dataset, "p1", [(0, UNDEFINED)] * 5000)
    write_record(dataset, "p2", fs=50)
    change_header(dataset, "p2", " V1", " MLII")
    (dataset / "p3.dat").unlink()

    with pytest.raises(ValidationFailed, match=r"and \d+ more$") as raised:
        check(dataset).raise_if_critical()

    assert len(str(raised.value)) < 400


def test_the_result_lists_every_expectation_and_caps_values(
    dataset: Path, check: Callable[..., Summary], tmp_path: Path
) -> None:
    write_annotation_file(dataset, "p1", [(100, UNDEFINED)] * 200)

    summary = check(dataset)
    written = read_json(tmp_path / "out" / "validation.json")

    rows = {row["name"]: row for row in written["expectations"]}
    assert set(rows) == {outcome.name for outcome in summary.outcomes}
    row = rows["symbols_known"]
    assert (row["suite"], row["column"], row["severity"], row["success"]) == (
        "annotations",
        "symbol",
        "critical",
        False,
    )
    assert row["unexpected"] == 200
    assert row["found_in"] == {"p1": 200}
    assert 0 < len(row["examples"]) < 50
    assert "symbols_known" in written["critical_failed"]


def test_equal_data_gives_equal_bytes(
    dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (dataset / "p2.atr").unlink()

    for out, workers in (("one", 1), ("two", 2)):
        validate_dataset(dataset, SCHEME, tmp_path / out, workers=workers)

    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "index.html",
        "validation.json",
    ]
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    assert capfd.readouterr().out == ""


class _Links(HTMLParser):
    """What a browser would load or go to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "srcset"}]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_else(tmp_path: Path, check: Callable[..., Summary]) -> None:
    write_dataset(tmp_path / "little", synthetic=True)
    (tmp_path / "little" / "p2.dat").unlink()
    check(tmp_path / "little", exclude=("p3",))

    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = _Links()
    page.feed(html)
    text = " ".join(page.text)

    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "url(" not in html
    assert "@import" not in html
    assert "#records-files_complete" in page.links
    assert 'id="records-files_complete"' in html
    assert "record p2: p2.dat" in text
    assert "sample: synthetic" in text


def test_a_page_shows_names_as_text(dataset: Path, check: Callable[..., Summary]) -> None:
    write_record(dataset, "p2", leads=("MLII", "<script>V1"))

    check(dataset)

    html = (dataset.parent / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "&lt;script&gt;V1" in html


def test_data_docs_go_to_their_own_folder_and_nowhere_else(
    dataset: Path, tmp_path: Path, check: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr("tempfile.tempdir", None)

    check(dataset, docs=tmp_path / "docs")

    assert "index.html" in {path.name for path in (tmp_path / "docs").iterdir()}
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 4
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "validation.json"}


def test_great_expectations_is_loaded_when_it_is_needed() -> None:
    code = "import sys, ecgbeats.validation; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
