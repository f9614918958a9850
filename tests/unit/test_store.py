from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.files import read_json, sha256_tree, write_json
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.store import SPEC, BeatImages, render_dataset
from tests.support.recordings import AAMI5, write_dataset

pytestmark = pytest.mark.unit

SMALL = CompositeSpec(representation="composite", panel_height=8, width=20, strip_height=2)


def rendered(raw: Path, out: Path) -> pd.DataFrame:
    """The table of beats that rendering leaves."""
    render_dataset(raw, SMALL, AAMI5, out, workers=1)
    return pd.read_parquet(out / "beats.parquet")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "raw", {"a": "NNVNANNN", "b": "NNNN~NNN", "c": "NNVVN"})
    return tmp_path / "raw"


def test_one_row_a_labelled_beat_and_take_gives_its_image(dataset: Path, tmp_path: Path) -> None:
    beats = rendered(dataset, tmp_path / "images")
    # "~" (signal quality) is no beat.
    assert beats.groupby("record").size().to_dict() == {"a": 8, "b": 7, "c": 5}
    images = BeatImages.open(tmp_path / "images")
    assert images.spec == SMALL
    shard = np.load(tmp_path / "images" / "c.npy")
    index = np.array([17, 0, 19])
    taken = images.take(index)
    assert taken.shape == (3, *SMALL.shape)
    assert (taken[0] == shard[2]).all() and (taken[2] == shard[4]).all()


def test_a_beat_without_class_still_counts_for_the_rhythm(tmp_path: Path) -> None:
    write_dataset(tmp_path / "raw", {"a": "NNNNNNBNNNNN"})
    render_dataset(tmp_path / "raw", SMALL, AAMI5, tmp_path / "images", workers=1)
    images = BeatImages.open(tmp_path / "images")
    assert len(images.beats) == 11
    # Were B no beat, the RR before the next one would be doubled and its block white.
    strip = images.take(np.array([6]))[0, -1]
    assert abs(int(strip[1]) - 128) < 8


def test_same_files_with_one_worker_or_two_and_excluded_records_left_out(
    dataset: Path, tmp_path: Path
) -> None:
    render_dataset(dataset, SMALL, AAMI5, tmp_path / "one", exclude=["b"], workers=1)
    render_dataset(dataset, SMALL, AAMI5, tmp_path / "two", exclude=["b"], workers=2)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    assert not (tmp_path / "one" / "b.npy").exists()


def test_a_record_that_cannot_be_read_leaves_no_images(dataset: Path, tmp_path: Path) -> None:
    (dataset / "c.dat").unlink()
    with pytest.raises(DataError, match="record c"):
        render_dataset(dataset, SMALL, AAMI5, tmp_path / "images", workers=2)
    assert list(tmp_path.iterdir()) == [dataset]


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    write_dataset(tmp_path / "raw", {"a": "BBB"})
    with pytest.raises(DataError, match="expected beats"):
        render_dataset(tmp_path / "raw", SMALL, AAMI5, tmp_path / "images", workers=1)


def test_images_of_another_spec_or_shape_are_refused(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "images"
    render_dataset(dataset, SMALL, AAMI5, out, workers=1)
    spec = read_json(out / SPEC)
    write_json(out / SPEC, {**spec, "width": 25})
    with pytest.raises(ContractError, match="render again"):
        BeatImages.open(out)
    write_json(out / SPEC, spec)
    np.save(out / "a.npy", np.load(out / "a.npy")[:-1])
    with pytest.raises(ContractError, match=r"a\.npy"):
        BeatImages.open(out)


def test_equal_windows_have_equal_hashes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "raw", {"a": "NNNN"})
    for suffix in ("dat", "hea", "atr"):
        content = (tmp_path / "raw" / f"a.{suffix}").read_bytes()
        (tmp_path / "raw" / f"b.{suffix}").write_bytes(content.replace(b"a.dat", b"b.dat"))
    manifest = read_json(tmp_path / "raw" / "dataset.json")
    manifest["records"].append({"record": "b", "patient": "b"})
    write_json(tmp_path / "raw" / "dataset.json", manifest)
    header = tmp_path / "raw" / "b.hea"
    header.write_text(header.read_text().replace("a 2", "b 2", 1))
    beats = rendered(tmp_path / "raw", tmp_path / "images")
    hashes = beats.groupby("record")["window_sha"].apply(list)
    assert hashes["a"] == hashes["b"]
    assert beats[beats["record"] == "a"]["window_sha"].is_unique


def test_flat_windows_have_no_hash(dataset: Path, tmp_path: Path) -> None:
    samples = wfdb.rdann(str(dataset / "b"), "atr").sample
    for name, first in (("b", samples[3] - 120), ("c", 0)):
        signal = wfdb.rdrecord(str(dataset / name)).p_signal
        signal[first:, 0], signal[first:, 1] = 0.25, np.nan
        wfdb.wrsamp(
            name,
            fs=360,
            units=["mV", "mV"],
            sig_name=["MLII", "V1"],
            p_signal=signal,
            fmt=["16", "16"],
            adc_gain=[200, 200],
            baseline=[0, 0],
            write_dir=str(dataset),
        )
    # A lead that still lives tells beats apart.
    beats = rendered(dataset, tmp_path / "images")
    flat = {r: list(t["window_sha"].isna()) for r, t in beats.groupby("record")}
    assert flat["a"] == [False] * 8
    assert flat["b"] == [False] * 3 + [True] * 4
    assert flat["c"] == [True] * 5
    assert beats["window_sha"].dropna().is_unique


def test_one_dead_lead_leaves_a_hash(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "raw", {"a": "NNNN"})
    signal = wfdb.rdrecord(str(tmp_path / "raw" / "a")).p_signal
    signal[:, 1] = 0
    wfdb.wrsamp(
        "a",
        fs=360,
        units=["mV", "mV"],
        sig_name=["MLII", "V1"],
        p_signal=signal,
        fmt=["16", "16"],
        adc_gain=[200, 200],
        baseline=[0, 0],
        write_dir=str(tmp_path / "raw"),
    )
    beats = rendered(tmp_path / "raw", tmp_path / "images")
    assert manifest.record_names == ("a",)
    assert beats["window_sha"].notna().all()


def test_an_excluded_record_that_is_not_there_is_named(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"records of test \(a, b, c\), got 1O2"):
        render_dataset(dataset, SMALL, AAMI5, tmp_path / "images", exclude=["a", "1O2"], workers=1)
    assert list(tmp_path.iterdir()) == [dataset]


def test_a_folder_without_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Run `make run` \(or `dvc repro`\) first"):
        render_dataset(tmp_path, SMALL, AAMI5, tmp_path / "images", workers=1)
