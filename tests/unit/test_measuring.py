from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgbeats.config import EvaluateParams, PatientSplit, Protocol
from ecgbeats.datasets import read_manifest
from ecgbeats.errors import ContractError
from ecgbeats.files import read_json, write_json
from ecgbeats.golden import read_golden
from ecgbeats.imaging.spec import CompositeSpec
from ecgbeats.imaging.store import BeatImages, render_dataset
from ecgbeats.inference import CARD, Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.measuring import GOLDEN, PREDICTIONS, evaluate_model
from ecgbeats.split import TEST, Split, assign_sides
from tests.support.recordings import AAMI5, write_dataset
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.unit

SPEC = CompositeSpec(representation="composite", panel_height=8, width=20, strip_height=2)
PARAMS = EvaluateParams(headline=("N", "V"), bootstrap=100)


@pytest.fixture
def made(tmp_path: Path) -> tuple[BeatImages, Split, Path]:
    write_dataset(tmp_path / "raw", {f"r{k}": "NNNVNNANNV" for k in range(6)})
    render_dataset(tmp_path / "raw", SPEC, AAMI5, tmp_path / "images", workers=1)
    images = BeatImages.open(tmp_path / "images")
    protocol = Protocol(
        labels=AAMI5,
        split=PatientSplit(by="patient", test_share=0.34, validation_share=0.34),
        gate=({"metric": "accuracy", "at_least": 0.5},),  # type: ignore[arg-type]
    )
    sides = assign_sides(images.beats, AAMI5, protocol)
    model = tmp_path / "model"
    write_tiny_model(model, SPEC, AAMI5.names)
    (model / "history.csv").write_text("phase,epoch,loss\nselect,1,0.5\n")
    return images, Split(sides, AAMI5.names, ("N", "V")), model


def run(made: tuple[BeatImages, Split, Path], tmp_path: Path) -> dict[str, object]:
    images, split, model = made
    return evaluate_model(
        "tiny",
        read_manifest(tmp_path / "raw"),
        images,
        split,
        Classifier.load(model),
        PARAMS,
        model_folder=model,
        predictions=tmp_path / "predictions",
        report=tmp_path / "report",
    )


def test_only_the_test_side_is_measured_and_all_of_it(
    made: tuple[BeatImages, Split, Path], tmp_path: Path
) -> None:
    figures = run(made, tmp_path)
    table = pd.read_parquet(tmp_path / "predictions" / PREDICTIONS)
    sides = made[1].beats
    assert set(table["record"]) == set(sides.loc[sides["side"] == TEST, "record"])
    assert figures["beats"] == len(table) == (sides["side"] == TEST).sum()
    assert figures == read_json(tmp_path / "report" / "metrics.json")
    assert figures["weights_sha256"] == read_json(made[2] / CARD)["weights_sha256"]


def test_explanation_and_the_models_own_threshold_are_in_the_figures(
    made: tuple[BeatImages, Split, Path], tmp_path: Path
) -> None:
    card = read_json(made[2] / CARD)
    write_json(made[2] / CARD, {**card, "answer": {"abstain_below": 0.5}})
    figures: Any = run(made, tmp_path)
    assert figures["abstention"]["below"] == 0.5
    assert figures["explanation"]["method"] == "occlusion"
    assert figures["explanation"]["randomised"] is None
    assert sum(figures["explanation"]["beats"].values()) > 0
    assert (tmp_path / "report" / "plots" / "saliency.png").is_file()


def test_the_golden_batch_is_what_the_model_answered(
    made: tuple[BeatImages, Split, Path], tmp_path: Path
) -> None:
    run(made, tmp_path)
    golden = read_golden(tmp_path / "predictions" / GOLDEN)
    again = Classifier.load(made[2]).predict(golden.images)
    assert np.abs(again - golden.probabilities).max() < 1e-6
    assert golden.spec_id == SPEC.spec_id


def test_every_class_is_in_the_golden_batch(tmp_path: Path) -> None:
    symbols = "NLRBAaJSVFer"
    scheme = LabelScheme(source="test", classes={s: s for s in symbols})
    # The last class comes last, where a cut would drop it.
    write_dataset(tmp_path / "raw", {"a": "".join(s * 4 for s in symbols)})
    render_dataset(tmp_path / "raw", SPEC, scheme, tmp_path / "images", workers=1)
    images = BeatImages.open(tmp_path / "images")
    classes = np.repeat(scheme.names, 4)
    split = Split(images.beats.assign(label=classes, side=TEST), scheme.names, ("N", "V"))
    model = tmp_path / "model"
    write_tiny_model(model, SPEC, scheme.names)
    (model / "history.csv").write_text("phase,epoch,loss\nselect,1,0.5\n")

    run((images, split, model), tmp_path)

    golden = read_golden(tmp_path / "predictions" / GOLDEN)
    assert len(golden.images) == 2 * len(symbols)
    expected = images.take(np.flatnonzero(np.arange(len(classes)) % 4 % 3 == 0))
    assert (golden.images == expected).all()


def test_other_pages_of_the_report_folder_stay(
    made: tuple[BeatImages, Split, Path], tmp_path: Path
) -> None:
    other = tmp_path / "report" / "validation"
    other.mkdir(parents=True)
    (other / "index.html").write_text("kept")
    run(made, tmp_path)
    run(made, tmp_path)
    assert (other / "index.html").read_text() == "kept"
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "curves",
        "index.html",
        "metrics.json",
        "per_record.csv",
        "plots",
        "validation",
    }


def test_images_or_classes_of_another_model_are_refused(
    made: tuple[BeatImages, Split, Path], tmp_path: Path
) -> None:
    images, split, model = made
    with pytest.raises(ContractError, match="classes"):
        run((images, Split(split.beats, ("N", "V"), ("N",)), model), tmp_path)
    other = SPEC.model_copy(update={"width": 25})
    render_dataset(tmp_path / "raw", other, AAMI5, tmp_path / "others", workers=1)
    with pytest.raises(ContractError, match="images of spec"):
        run((BeatImages.open(tmp_path / "others"), split, model), tmp_path)
