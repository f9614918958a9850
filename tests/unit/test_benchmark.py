"""Rows, their keys and figures, and what the page says of them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from ecgbeats import bootstrap, codehash
from ecgbeats.benchmark import (
    COMPLETE,
    NOT_RUN,
    PARTIAL,
    STALE,
    Peer,
    Row,
    difference,
    measure,
    merged,
    patients_of,
    plan,
    read_peers,
    read_rows,
    replicate_means,
    status,
    summary,
    tables,
)
from ecgbeats.benchmark_page import html, insert_block, markdown, readme_block
from ecgbeats.codehash import code_hash
from ecgbeats.config import BenchmarkProtocol, Params, read_params
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.evaluation import evaluate
from ecgbeats.macs import macs_of
from tests.support.predictions import CLASSES, HEADLINE, about, fake_predictions
from tests.support.projects import tiny_params
from tests.unit.test_report import Page

pytestmark = pytest.mark.unit

Change = Callable[[dict[str, Any]], None]


def params_with(change: Change = lambda values: None) -> Params:
    """The tiny project with two systems, an ablation and two protocols."""
    values = tiny_params()
    table = {"dataset": "small", "protocol": "patients", "headline": ["N", "S", "V"]}
    values["benchmark"] = {
        "bootstrap": 200,
        "protocols": {
            "own": {**table, "also": ["N", "S", "V", "F"], "focus": "S", "seeds": [1, 2]},
            "folds": {**table, "folds": {"number": 3, "by": "patient", "over": "training"}},
        },
        "systems": {
            "ours": {"recipe": "tiny", "protocols": ["own", "folds"]},
            "trace": {
                "about": "a trace",
                "recipe": "tiny",
                "image": {"representation": "waveform"},
                "protocols": ["own"],
            },
        },
        "ablations": {
            "one-panel": {"of": "ours", "protocol": "folds", "image": {"panels": ["beat"]}}
        },
    }
    change(values)
    return Params.model_validate(values)


def rows_of(params: Params, code: str = "code", measuring: str = "m") -> dict[str, Row]:
    return {row.name: row for row in plan(params, lambda model: f"{code} {model}", measuring)}


def row_file(row: Row, *, seeds: tuple[int, ...] = (1,), chance: int = 0) -> dict[str, Any]:
    """What a run of `row` leaves, of fake predictions; seed k has those of seed `chance` + k."""
    table = TABLE
    predictions = {seed: fake_predictions(chance + seed) for seed in seeds}
    spent = {"weights_sha256": ["ab"], "train_seconds": 90.0, "threads": 2}
    return {
        "schema": 1,
        "key": row.key,
        "commit": "1234567890",
        "dirty": False,
        "synthetic": False,
        "classes": list(CLASSES),
        "parameters": 61_989,
        "macs": 2_500_000,
        "patients": patients_of(predictions[seeds[0]]),
        "seeds": {
            str(seed): measure(each, CLASSES, table, spent) for seed, each in predictions.items()
        },
    }


TABLE = BenchmarkProtocol(
    dataset="small", protocol="patients", headline=HEADLINE, also=("N", "S", "V", "F"), focus="S"
)


def test_a_row_for_each_protocol_of_a_system_and_for_each_ablation() -> None:
    rows = rows_of(params_with())
    assert list(rows) == ["ours@own", "ours@folds", "trace@own", "one-panel@folds"]
    assert [row.of for row in rows.values()] == [None, None, None, "ours"]
    assert rows["trace@own"].setup.image.representation == "waveform"
    changed, base = rows["one-panel@folds"].setup, rows["ours@folds"].setup
    assert changed.image.panels == ("beat",)
    assert changed.image.width == base.image.width == 32
    assert (changed.model, changed.train) == (base.model, base.train)
    assert rows["one-panel@folds"].command == (
        "ecgbeats benchmark --system one-panel --protocol folds --again"
    )


def test_options_of_a_model_are_changed_one_by_one_unless_it_is_another_model() -> None:
    def change(values: dict[str, Any]) -> None:
        systems = values["benchmark"]["systems"]
        systems["wider"] = {
            "recipe": "tiny",
            "model": {"options": {"dense": 32}},
            "protocols": ["own"],
        }
        systems["other"] = {"recipe": "tiny", "model": {"name": "other"}, "protocols": ["own"]}

    rows = rows_of(params_with(change))
    assert rows["wider@own"].setup.model.options == {
        "filters": [8, 16],
        "dense": 32,
        "dropout": 0.1,
        "along_time": True,
        "told_by_rhythm": ["N", "S"],
    }
    assert rows["other@own"].setup.model.options == {}


def set_at(path: str, value: Any) -> Change:
    def change(values: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for key in way:
            values = values[key]
        values[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipes.tiny.train.epochs", 9),
        ("recipes.tiny.image.width", 48),
        ("recipes.tiny.model.options.dense", 17),
        ("protocols.patients.split.seed", 2),
        ("protocols.patients.exclude_records", []),
        ("datasets.small.seed", 8),
        ("benchmark.protocols.own.headline", ["N", "V"]),
    ],
)
def test_what_decides_a_rows_figures_changes_its_key(path: str, value: Any) -> None:
    before, after = rows_of(params_with()), rows_of(params_with(set_at(path, value)))
    assert before["ours@own"].training != after["ours@own"].training
    assert before["ours@own"].key != after["ours@own"].key


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipes.tiny.train.seed", 9),
        ("benchmark.protocols.own.seeds", [1, 2, 3]),
        ("benchmark.protocols.own.about", "words"),
        ("benchmark.bootstrap", 300),
        ("protocols.patients.gate", [{"metric": "accuracy", "at_least": 0.1}]),
    ],
)
def test_what_does_not_decide_them_leaves_the_key(path: str, value: Any) -> None:
    before, after = rows_of(params_with()), rows_of(params_with(set_at(path, value)))
    assert before["ours@own"].key == after["ours@own"].key


def test_the_order_of_the_classes_is_part_of_the_key() -> None:
    def change(values: dict[str, Any]) -> None:
        labels = values["protocols"]["patients"]["labels"]
        labels["classes"] = dict(reversed(labels["classes"].items()))

    assert rows_of(params_with())["ours@own"].key != rows_of(params_with(change))["ours@own"].key


def test_code_that_only_measures_does_not_ask_for_a_new_training() -> None:
    before, after = rows_of(params_with()), rows_of(params_with(), measuring="other")
    assert before["ours@own"].key != after["ours@own"].key
    assert before["ours@own"].training == after["ours@own"].training


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("benchmark.systems.ours.protocols", ["owns"], "owns"),
        ("benchmark.systems.ours.recipe", "tiney", "tiney"),
        ("benchmark.protocols.own.focus", "X", "'X'"),
        ("benchmark.protocols.own.dataset", "big", "'big'"),
        ("benchmark.ablations.one-panel.of", "hours", "hours"),
        ("benchmark.ablations.one-panel.of", "one-panel", "one-panel of one-panel goes round"),
        ("benchmark.ablations.one-panel.image", {"panells": []}, "panells"),
        ("benchmark.systems.trace.train", {"epochs": 0}, "train.epochs"),
        ("benchmark.systems.trace.recipe", None, "give a recipe"),
    ],
)
def test_a_slip_in_the_benchmark_is_named_on_reading(
    tmp_path: Path, path: str, value: Any, named: str
) -> None:
    values = tiny_params()
    values["benchmark"] = params_with().model_dump(mode="json", exclude_unset=True)["benchmark"]
    set_at(path, value)(values)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=re.escape(named)):
        read_params(tmp_path / "params.yaml")


def test_a_seeds_figures_are_those_of_the_evaluation() -> None:
    predictions = fake_predictions()
    seed = measure(predictions, CLASSES, TABLE, {"train_seconds": 1.0})
    full = evaluate(predictions, CLASSES, HEADLINE, replicates=100, seed=0, about=about())
    figures = seed["figures"]
    assert figures["macro_f1"] == pytest.approx(full["headline"]["macro_f1"], abs=1e-6)
    assert figures["ece"] == pytest.approx(full["calibration"]["ece"], abs=1e-6)
    s = figures["classes"]["S"]
    assert s["record_se"] == pytest.approx(full["average"]["S"]["se"], abs=1e-6)
    assert s["without_f1"] == pytest.approx(full["without_largest_patient"]["S"]["f1"], abs=1e-6)
    assert s["without_patient"] == "p01"
    expected = np.mean([full["gross"][name]["f1"] for name in ("N", "S", "V", "F")])
    assert figures["also_f1"] == pytest.approx(expected, abs=1e-6)
    assert seed["train_seconds"] == 1.0
    counts = sum(int(n) for text in seed["by_record"].values() for n in re.findall(r"\d+", text))
    assert counts == len(predictions) == seed["beats"]
    json.dumps(seed, allow_nan=False)


def test_the_interval_of_one_seed_is_that_of_its_evaluation() -> None:
    row = rows_of(params_with())["ours@own"]
    figures = summary(row_file(row), TABLE, replicates=300, seed=5)
    full = evaluate(fake_predictions(1), CLASSES, HEADLINE, replicates=300, seed=5, about=about())
    assert figures["macro_f1"].interval == pytest.approx(full["headline"]["macro_f1_interval"])
    assert figures["accuracy"].interval == pytest.approx(full["accuracy_interval"])
    assert figures["classes.S.f1"].interval == pytest.approx(full["gross"]["S"]["f1_interval"])
    assert figures["macro_f1"].sd is None
    assert figures["ece"].interval is None


def test_means_and_spread_are_over_seeds() -> None:
    row = rows_of(params_with())["ours@own"]
    stored = row_file(row, seeds=(1, 2, 3))
    each = [stored["seeds"][s]["figures"]["macro_f1"] for s in "123"]
    figure = summary(stored, TABLE, replicates=100, seed=0)["macro_f1"]
    assert figure.mean == pytest.approx(np.mean(each))
    assert figure.sd == pytest.approx(np.std(each, ddof=1))
    low, high = figure.interval or (1.0, 0.0)
    assert low < figure.mean < high


def test_a_figure_that_one_seed_lacks_has_no_mean() -> None:
    stored = row_file(rows_of(params_with())["ours@own"], seeds=(1, 2))
    stored["seeds"]["2"]["figures"]["classes"]["Q"]["ppv"] = None
    assert summary(stored, TABLE, replicates=100, seed=0)["classes.Q.ppv"].mean is None


def test_rows_are_compared_on_the_same_patients() -> None:
    row = rows_of(params_with())["ours@own"]
    one, other = row_file(row), row_file(row, chance=10)
    how = {"replicates": 300, "seed": 0}
    same = difference(one, copy.deepcopy(one), TABLE, **how)
    assert (same.mean, same.interval) == (0.0, (0.0, 0.0))
    apart = difference(one, other, TABLE, **how)
    macro = [stored["seeds"]["1"]["figures"]["macro_f1"] for stored in (one, other)]
    assert apart.mean == pytest.approx(macro[0] - macro[1])
    # Patients that are hard for both move both: the paired interval is the narrower one.
    alone = summary(one, TABLE, **how)["macro_f1"].interval
    assert apart.interval is not None and alone is not None
    assert apart.interval[1] - apart.interval[0] < alone[1] - alone[0]
    other["patients"] = {**other["patients"], "999": "p99"}
    assert difference(one, other, TABLE, **how).interval is None


def test_seeds_are_added_to_a_row_of_the_same_key_and_replace_one_of_another() -> None:
    rows = rows_of(params_with())
    row, changed = rows["ours@own"], rows["trace@own"]
    stored = merged(row_file(row, seeds=(2,)), row_file(row, seeds=(1,)))
    assert list(stored["seeds"]) == ["1", "2"]
    assert list(merged(stored, row_file(changed, seeds=(3,)))["seeds"]) == ["3"]
    assert list(merged(None, row_file(row))["seeds"]) == ["1"]


def test_the_state_of_a_row() -> None:
    row = rows_of(params_with())["ours@own"]
    assert status(row, None, (1, 2)) == NOT_RUN
    assert status(row, row_file(row), (1, 2)) == PARTIAL
    assert status(row, row_file(row, seeds=(1, 2)), (1, 2)) == COMPLETE
    moved = rows_of(params_with(), code="newer")["ours@own"]
    assert status(moved, row_file(row, seeds=(1, 2)), (1, 2)) == STALE


def made_tables(**files: dict[str, Any]) -> Any:
    params = params_with()
    rows = rows_of(params)
    peers = [
        Peer(system="<b>Wang", protocols=("own",), how="measured", macro_f1=0.915,
             figures={"S F1": 0.813, "V F1": ".95 | .96"}),
        Peer(system="SE-ResNet", protocols=("own",), how="published", invalid="tests on DS2"),
    ]  # fmt: skip
    stored = {name.replace("_", "@"): file for name, file in files.items()}
    return tables(params, list(rows.values()), stored, peers)


def test_what_was_run_comes_first_by_macro_f1_and_what_was_not_stays() -> None:
    rows = rows_of(params_with())
    assert [line.row.system for line in made_tables()[0].lines] == ["ours", "trace"]
    own = made_tables(trace_own=row_file(rows["trace@own"]))[0]
    assert [(line.row.system, line.status) for line in own.lines] == [
        ("trace", PARTIAL),
        ("ours", NOT_RUN),
    ]
    assert own.lines[0].missing == (2,)
    assert own.lines[0].minutes.mean == pytest.approx(1.5)
    good, bad = row_file(rows["ours@own"]), row_file(rows["trace@own"], chance=7)
    own = made_tables(ours_own=good, trace_own=bad)[0]
    scores = [line.figure("macro_f1").mean for line in own.lines]
    assert scores == sorted(scores, reverse=True)


def test_the_page_needs_nothing_else_and_shows_every_row_with_its_command() -> None:
    rows = rows_of(params_with())
    text = html(made_tables(ours_own=row_file(rows["ours@own"], seeds=(1, 2))))
    page = Page(text)
    assert all(link.startswith(("#", "data:")) for link in page.references)
    assert "script" not in page.tags
    assert not re.search(r"https?://|url\(|@import", text)
    for row in rows.values():
        assert row.command in page.text
    figure = summary(row_file(rows["ours@own"], seeds=(1, 2)), TABLE, replicates=200, seed=0)
    assert f"{figure['macro_f1'].mean:.3f} ± {figure['macro_f1'].sd:.3f}" in page.text
    assert "<b>Wang" in page.text
    assert "tests on DS2" in page.text
    assert "SAMPLE DATA" in page.text
    assert "not run" in page.text
    assert "svg" in page.tags


def test_a_stale_row_is_marked_on_page_and_in_markdown() -> None:
    old = row_file(rows_of(params_with(), code="older")["ours@own"])
    assert "stale" in Page(html(made_tables(ours_own=old))).text
    assert "stale: code or parameters have changed since" in markdown(made_tables(ours_own=old))
    fresh = row_file(rows_of(params_with())["ours@own"], seeds=(1, 2))
    assert "stale" not in Page(html(made_tables(ours_own=fresh))).text


def test_an_ablation_is_shown_with_its_difference() -> None:
    rows = rows_of(params_with())
    made = made_tables(
        ours_folds=row_file(rows["ours@folds"]),
        **{"one-panel_folds": row_file(rows["one-panel@folds"])},
    )[1]
    (line,) = made.ablations
    assert line.difference.mean == 0
    assert [line.row.system for line in made.lines] == ["ours"]
    assert "+0.000 [+0.000, +0.000]" in markdown([made])


def changed_further(values: dict[str, Any]) -> None:
    ablations = values["benchmark"]["ablations"]
    ablations["and-longer"] = {"of": "one-panel", "protocol": "folds", "train": {"epochs": 9}}


def test_an_ablation_of_another_has_its_changes_and_is_compared_with_it() -> None:
    params = params_with(changed_further)
    first, second = params.setup("one-panel"), params.setup("and-longer")
    assert second.image == first.image != params.setup("ours").image
    assert (second.train.epochs, second.model) == (9, first.model)
    rows = rows_of(params)
    files = {
        "ours@folds": row_file(rows["ours@folds"]),
        "one-panel@folds": row_file(rows["one-panel@folds"], chance=5),
        "and-longer@folds": row_file(rows["and-longer@folds"], chance=5),
    }
    lines = {line.row.system: line for line in tables(params, [*rows.values()], files)[1].ablations}
    assert lines["and-longer"].difference.mean == 0
    assert lines["one-panel"].difference.mean != 0


def test_an_ablation_of_one_under_another_protocol_is_refused() -> None:
    def elsewhere(values: dict[str, Any]) -> None:
        changed_further(values)
        values["benchmark"]["ablations"]["and-longer"]["protocol"] = "own"

    with pytest.raises(ValidationError, match=r"and-longer\.of.*'one-panel'"):
        params_with(elsewhere)


def test_intervals_of_means_over_records_are_those_of_drawn_records() -> None:
    row = rows_of(params_with())["ours@own"]
    stored = row_file(row)
    means = replicate_means(stored, TABLE, replicates=50, seed=3)["classes.S.record_se"]
    matrices = {
        record: np.array([[int(n) for n in line.split()] for line in text.split(",")])
        for record, text in stored["seeds"]["1"]["by_record"].items()
    }
    names = sorted({*stored["patients"].values()})
    s = CLASSES.index("S")
    for mean, times in zip(means, bootstrap.draws(len(names), 50, 3), strict=True):
        drawn = [
            matrix[s, s] / matrix[s].sum()
            for record, matrix in matrices.items()
            for _ in range(times[names.index(stored["patients"][record])])
            if matrix[s].sum()
        ]
        assert mean == pytest.approx(np.mean(drawn) if drawn else np.nan, nan_ok=True)
    shown = summary(stored, TABLE, replicates=50, seed=3)["classes.S.record_se"]
    assert shown.interval is not None
    assert shown.interval[0] <= shown.mean <= shown.interval[1]


def test_accuracy_has_the_digit_in_which_beats_at_random_differ() -> None:
    stored = row_file(rows_of(params_with())["ours@own"])
    stored["seeds"]["1"]["figures"]["accuracy"] = 0.99657
    assert " 0.9966 " in markdown(made_tables(ours_own=stored))


def test_systems_of_which_a_sentence_is_said_have_it_under_the_table() -> None:
    assert "\n- trace: a trace\n" in markdown(made_tables())


def test_what_pictures_cannot_tell_of_patients_is_said() -> None:
    params = read_params(Path(__file__).parents[2] / "params.yaml")
    (table,) = (t for t in tables(params, [*rows_of(params).values()], {}) if t.name == "folder6")
    assert "Patients are on both sides" in table.by
    assert "none that is tested was trained on" not in table.by


def test_every_line_of_a_markdown_table_has_as_many_cells() -> None:
    rows = rows_of(params_with())
    text = markdown(made_tables(ours_own=row_file(rows["ours@own"])))
    for block in text.split("\n\n"):
        cells = [len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines() if "|" in line]
        assert len(set(cells)) <= 1
    assert ".95 \\| .96" in text
    assert "INVALID: tests on DS2" in text


def test_the_readme_shows_what_was_run_on_real_recordings() -> None:
    rows = rows_of(params_with())
    made = made_tables(ours_own=row_file(rows["ours@own"]))
    assert "has been run yet" in readme_block(made)

    def real(values: dict[str, Any]) -> None:
        values["datasets"]["small"] = {
            "source": "physionet", "database": "x/1", "licence": "x", "citation": "x",
        }  # fmt: skip

    params = params_with(real)
    rows = rows_of(params)
    files = {"ours@own": row_file(rows["ours@own"])}
    text = readme_block(tables(params, list(rows.values()), files))
    assert "| ours (partial) |" in text
    assert "trace" not in text
    assert "61,989" in text
    assert "commit 1234567" in text


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = "a\n<!-- benchmark:begin -->\nold\n<!-- benchmark:end -->\nb\n"
    once = insert_block(text, "new\n")
    assert once == "a\n<!-- benchmark:begin -->\nnew\n<!-- benchmark:end -->\nb\n"
    assert insert_block(once, "new\n") == once
    with pytest.raises(DataError, match="benchmark:begin"):
        insert_block("nothing here", "new")


def test_peers_of_the_project_can_be_read_and_a_slip_is_named(tmp_path: Path) -> None:
    peers = read_peers(Path(__file__).parents[2] / "docs" / "peers.yaml")
    assert {peer.how for peer in peers} == {"published", "measured"}
    (tmp_path / "peers.yaml").write_text("peers: [{system: x, protocols: [a], how: guessed}]")
    with pytest.raises(ConfigError, match="how"):
        read_peers(tmp_path / "peers.yaml")


def test_a_row_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a@b.json").write_text('{"schema": 0}')
    with pytest.raises(DataError, match=r"a@b.json: expected schema 1, got 0"):
        read_rows(tmp_path)


# Code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of ours with two networks and what trains them."""
    monkeypatch.setattr(codehash, "_SRC", tmp_path)
    folder = tmp_path / "ecgbeats"
    (folder / "models").mkdir(parents=True)
    (folder / "training.py").write_text(
        "from ecgbeats.models import build\nfrom ecgbeats import loss\n"
    )
    (folder / "loss.py").write_text('def loss(x):\n    "Words."\n    return x\n')
    (folder / "models" / "__init__.py").write_text(
        "def _a():\n    from ecgbeats.models import one\n\n\n"
        "def _b():\n    from ecgbeats.models import two\n\n\n"
        'BUILDERS = {"a": _a, "b": _b}\n'
    )
    (folder / "models" / "one.py").write_text("x = 1\n")
    (folder / "models" / "two.py").write_text("x = 2\n")
    return folder


def test_words_and_layout_do_not_change_the_code(package: Path) -> None:
    before = code_hash(["ecgbeats.training"])
    (package / "loss.py").write_text("# why\ndef loss(x):\n    return (\n        x\n    )\n")
    assert code_hash(["ecgbeats.training"]) == before
    (package / "loss.py").write_text("def loss(x):\n    return -x\n")
    assert code_hash(["ecgbeats.training"]) != before


def test_another_network_does_not_change_the_code_of_one(package: Path) -> None:
    def both() -> tuple[str, str]:
        return tuple(code_hash(["ecgbeats.training"], model=name) for name in "ab")

    first = both()
    (package / "models" / "two.py").write_text("x = 3\n")
    second = both()
    assert second[0] == first[0] and second[1] != first[1]
    names = package / "models" / "__init__.py"
    names.write_text(names.read_text().replace("}", ', "c": _a}'))
    assert both() == second


def test_of_a_table_of_networks_that_is_not_understood_all_counts(package: Path) -> None:
    before = code_hash(["ecgbeats.training"], model="unknown")
    (package / "models" / "two.py").write_text("x = 3\n")
    assert code_hash(["ecgbeats.training"], model="unknown") != before


def test_what_is_left_out_does_not_count(package: Path) -> None:
    before = code_hash(["ecgbeats.training"], without=["ecgbeats.models"])
    (package / "models" / "two.py").write_text("x = 3\n")
    assert code_hash(["ecgbeats.training"], without=["ecgbeats.models"]) == before


def test_the_projects_own_networks_are_told_apart() -> None:
    import ecgbeats.models as models

    names = list(models.BUILDERS)
    alone = {name: code_hash(["ecgbeats.models"], model=name) for name in names}
    everything = code_hash(["ecgbeats.models"])
    assert everything not in alone.values()


# Multiplications


def graph_file(path: Path, nodes: list[Any], inputs: list[Any], *constants: Any) -> Path:
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in constants
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def image(*shape: int | str) -> Any:
    return helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))


def test_multiplications_of_convolutions_and_matrices_as_counted_by_hand(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=4),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "w3"], ["e"], transB=1),
        helper.make_node("MatMul", ["e", "w4"], ["y"]),
    ]
    path = graph_file(
        tmp_path / "a.onnx", nodes, [image("batch", 3, 8, 8)],
        ("w1", (4, 3, 3, 3)), ("w2", (8, 1, 1, 1)), ("w3", (10, 128)), ("w4", (10, 5)),
    )  # fmt: skip
    first, depthwise = 4 * 4 * 4 * (3 * 3 * 3), 8 * 4 * 4 * 1
    assert macs_of(path) == first + depthwise + 128 * 10 + 10 * 5


def test_multiplications_of_a_recurrent_layer(tmp_path: Path) -> None:
    node = helper.make_node(
        "LSTM", ["x", "w", "r"], ["y"], hidden_size=6, direction="bidirectional"
    )
    path = graph_file(
        tmp_path / "a.onnx", [node], [image(20, 1, 5)], ("w", (2, 24, 5)), ("r", (2, 24, 6))
    )
    assert macs_of(path) == 20 * 2 * 4 * 6 * (5 + 6)


def test_what_cannot_be_counted_is_not_given_a_number(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = graph_file(tmp_path / "a.onnx", [node], [image(1, "n", 5)], ("w", (5, 4)))
    assert macs_of(path) is None


def test_multiplications_of_the_default_network(tmp_path: Path) -> None:
    from ecgbeats.export import save_onnx
    from ecgbeats.imaging.spec import CompositeSpec
    from ecgbeats.models import build_model

    spec = CompositeSpec(representation="composite", panel_height=16, width=32, strip_height=4)
    model = build_model("compact", spec, 5, filters=[4, 8], dense=6)
    save_onnx(model, tmp_path / "a.onnx")
    expected = 0
    for layer in model.layers:
        if type(layer).__name__ == "Conv2D":
            rows, columns, filters = layer.output.shape[1:]
            kernel = int(np.prod(layer.kernel.shape[:3]))
            expected += rows * columns * filters * kernel
    found = macs_of(tmp_path / "a.onnx")
    assert found is not None
    # The exporter may put the rhythm's averaging into a product of its own; never more.
    assert expected <= found <= expected * 1.05


def test_replicates_of_rows_are_draws_of_patients_not_records() -> None:
    """Two records of one patient move together."""
    row = rows_of(params_with())["ours@own"]
    stored = row_file(row)
    stored["patients"] = dict.fromkeys(stored["patients"], "one")
    assert summary(stored, TABLE, replicates=100, seed=0)["macro_f1"].interval is None
