from pathlib import Path

import numpy as np
import pytest

from ecgbeats.files import (
    canonical_json,
    folder_written_aside,
    sha256_arrays,
    sha256_tree,
    write_json,
    write_text,
    written_aside,
)

pytestmark = pytest.mark.unit


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), written_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("one", "two"):
        with folder_written_aside(folder) as aside:
            (aside / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["two"]
    with pytest.raises(RuntimeError), folder_written_aside(folder) as aside:
        (aside / "three").write_text("half")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [folder]


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_tree_hash_sees_names_and_contents_but_not_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("2")
    first = sha256_tree(tmp_path)
    (tmp_path / ".a.1.partial").write_text("x")
    assert sha256_tree(tmp_path) == first
    (tmp_path / "sub" / "b").rename(tmp_path / "sub" / "c")
    renamed = sha256_tree(tmp_path)
    (tmp_path / "sub" / "c").write_text("3")
    assert len({first, renamed, sha256_tree(tmp_path)}) == 3


def test_array_hash_sees_shape_and_type() -> None:
    base = np.arange(6, dtype=np.float32)
    others = [base.reshape(2, 3), base.astype(np.float64), base[::-1]]
    assert len({sha256_arrays([array]) for array in (base, *others)}) == 4
    assert sha256_arrays([base]) == sha256_arrays([base.copy()])


def test_equal_values_have_one_text() -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == canonical_json({"a": [1.5, None], "b": 1})
