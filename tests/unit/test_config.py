from pathlib import Path

import pytest
import yaml

from ecgbeats.config import read_params
from ecgbeats.errors import ConfigError

pytestmark = pytest.mark.unit

PARAMS = Path(__file__).parents[2] / "params.yaml"


def changed(tmp_path: Path, path: str, value: object) -> Path:
    values = yaml.safe_load(PARAMS.read_text())
    at = values
    *parents, last = path.split(".")
    for key in parents:
        at = at[key]
    at[last] = value
    out = tmp_path / "params.yaml"
    out.write_text(yaml.safe_dump(values))
    return out


def test_the_projects_own_parameters_hold_the_recipes() -> None:
    params = read_params(PARAMS)
    assert {"sample-aami5", "mitdb-aami5", "mitdb-paper8"} <= set(params.recipes)
    assert params.scheme_of("mitdb-aami5").names == ("N", "S", "V", "F", "Q")


def test_ds1_and_ds2_are_the_published_ones() -> None:
    """de Chazal et al. 2004, table II: 22 records each, paced ones in neither."""
    protocol = read_params(PARAMS).protocols["aami5"]
    split = protocol.split
    assert split.by == "patient"
    assert len(split.train_records) == len(split.test_records) == 22
    together = {*split.train_records, *split.test_records, *protocol.exclude_records}
    assert len(together) == 48
    assert protocol.patients_on_both_sides == ("201+202",)


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("recipes.sample-aami5.train.epoch", 3, "recipes.sample-aami5.train.epoch"),
        ("recipes.sample-aami5.train.epochs", 0, "epochs"),
        ("recipes.sample-aami5.train.min_epochs", 99, "more than epochs"),
        ("recipes.sample-aami5.dataset", "nowhere", "nowhere"),
        ("recipes.sample-aami5.protocol", "nothing", "nothing"),
        ("recipes.sample-aami5.evaluate.headline", ["N", "X"], "X"),
        ("protocols.aami5.labels.classes", {"N": "NN"}, "'N'"),
        ("protocols.aami5.labels.classes", {"N": "Ny"}, "'y'"),
        ("protocols.aami5.split.test_share", 0.2, "test_records"),
        ("protocols.aami5.gate", [], "gate"),
        (
            "protocols.aami5.no_regression",
            [{"metric": "gross.VEB.se", "margin": 0.1}],
            "got 'gross.VEB.se'",
        ),
        (
            "protocols.aami5.serving",
            [{"metric": "latency.ms", "at_most": 1}],
            "got 'latency.ms'",
        ),
        ("recipes.sample-aami5.evaluate.headline", [], "headline"),
        ("recipes.mitdb-aami5.model.options.told_by_rhythm", ["N", "APC"], "APC"),
        ("recipes.mitdb-aami5.model.options.told_by_rhythm", ["N"], "two classes"),
        (
            "recipes.mitdb-aami5.model.kinds",
            [{"told_by_rhythm": ["N", "APC"]}],
            "model: told_by_rhythm: expected one of",
        ),
        ("recipes.mitdb-aami5.model.kinds", [{"told_by_rhythm": ["N"]}], "two classes"),
        ("recipes.mitdb-aami5.train.members", 3, "each of model.kinds, 4; got 3"),
        ("recipes.mitdb-aami5.model.options.told_by_rhythm", 1, "two classes"),
        ("benchmark.systems.default.protocols", ["aami5", "paper8"], "default under paper8"),
        ("recipes.My_recipe", {}, "My_recipe"),
        ("protocols.aami5.gate", [{"metric": "accuracy"}], "at_least or at_most"),
        ("datasets.sample.source", "thin air", "source"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path: Path, path: str, value: object, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_params(changed(tmp_path, path, value))
    assert names in str(caught.value)


def test_a_missing_or_broken_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_params(tmp_path / "params.yaml")
    for content in (b"a: [", b"caf\xe9: 1"):
        (tmp_path / "params.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match="not YAML"):
            read_params(tmp_path / "params.yaml")


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"expected one of .*sample-aami5.*got 'x'"):
        read_params(PARAMS).recipe("x")


def test_dvc_can_write_the_parameters_back(tmp_path: Path) -> None:
    """As `dvc exp run -S` does; a comment beside an anchor would break it."""
    from dvc.utils.hydra import apply_overrides

    file = tmp_path / "params.yaml"
    file.write_text((Path(__file__).parents[2] / "params.yaml").read_text())
    before = yaml.safe_load(file.read_text())
    apply_overrides(file, ["recipes.sample-aami5.train.epochs=3"])
    before["recipes"]["sample-aami5"]["train"]["epochs"] = 3
    after = yaml.safe_load(file.read_text())
    assert after["recipes"]["sample-aami5"] == before["recipes"]["sample-aami5"]
    assert after["protocols"] == before["protocols"]
