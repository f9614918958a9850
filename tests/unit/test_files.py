import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ecgbeats.errors import is_of_storage, of_storage
from ecgbeats.files import (
    _HOST,
    canonical_json,
    clear_workplaces,
    folder_written_aside,
    sha256_arrays,
    sha256_tree,
    workplace,
    write_json,
    write_text,
    written_aside,
)

pytestmark = pytest.mark.unit


OURS = f"{_HOST}{'0' * 18}"
# Of another machine.
AWAY = "0" * 28


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


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {
        f".a.{AWAY}.partial.txt",
        f".out.{AWAY}.partial",
        f".b.{OURS}.partial.txt",
        f".a.{OURS}.partial.csv",
        f".other.{OURS}.old",
        f"..out.{OURS}.partial",
    }
    left = {f".a.{OURS}.partial.txt", f".out.{OURS}.partial", f".out.{OURS}.old"}
    # Written aside within what was written aside.
    left.add(f"..out.{OURS}.partial.{OURS}.partial")
    days_old = f".a.{AWAY[:-1]}1.partial.txt"
    for name in kept | left | {days_old}:
        if "out" in name:
            (tmp_path / name).mkdir()
            (tmp_path / name / "content").write_text("half")
        else:
            (tmp_path / name).write_text("half")
    os.utime(tmp_path / days_old, (1e9, 1e9))
    (tmp_path / "out").mkdir()

    write_text(tmp_path / "a.txt", "whole")
    with folder_written_aside(tmp_path / "out") as aside:
        (aside / "new").write_text("whole")

    assert {path.name for path in tmp_path.iterdir()} == kept | {"a.txt", "out"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


@pytest.mark.parametrize("nested", [False, True])
def test_what_another_writes_at_the_same_time_is_left_alone(tmp_path: Path, nested: bool) -> None:
    # As in two containers, whose processes have the same id.
    with written_aside(tmp_path / "a.txt") as ours, ours.open("w") as file:
        file.write("one\n")
        write_text(tmp_path / "a.txt", "theirs")
        file.write("two\n")
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"

    with folder_written_aside(tmp_path / "out") as folder:
        if nested:
            with folder_written_aside(folder) as within:
                (within / "one").touch()
        else:
            (folder / "one").touch()
        with folder_written_aside(tmp_path / "out") as theirs:
            (theirs / "theirs").touch()
        (folder / "two").touch()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one", "two"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "out"}


def test_of_workplaces_only_those_that_nobody_works_in_are_removed(tmp_path: Path) -> None:
    # A number of a process says nothing in another container: such a name is not believed.
    not_ours = {f".w-{os.getpid()}-x", f".w-{2**22 - 1}-y", f".w-{AWAY}", f".x-{OURS}"}
    for name in (*not_ours, f".w-{OURS}", f".w-{AWAY[:-1]}1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text("half")
    os.utime(tmp_path / f".w-{AWAY[:-1]}1", (1e9, 1e9))
    with workplace(tmp_path, ".w-") as place:
        (place / "content").write_text("half")
        clear_workplaces(tmp_path, ".w-")
        assert {path.name for path in tmp_path.iterdir()} == not_ours | {place.name}
        assert (place / "content").read_text() == "half"
    assert {path.name for path in tmp_path.iterdir()} == not_ours


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file takes more bytes than `most`: it ends in its midst, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", ["numpy", "python"])
def test_what_did_not_fit_is_named(tmp_path: Path, writer: str) -> None:
    # Neither NumPy's error nor that of a write says which file it was.
    values = np.zeros(100_000, np.uint8)

    def write(path: Path) -> None:
        if writer == "numpy":
            np.save(path, values)
        else:
            path.write_bytes(values)

    for path in (tmp_path / "a.npy", tmp_path / "out"):
        with pytest.raises(OSError) as caught, small_files(50_000):
            if path.suffix:
                with written_aside(path) as aside:
                    write(aside)
            else:
                with folder_written_aside(path) as folder:
                    write(folder / "b.npy")
        assert is_of_storage(caught.value)
        assert str(of_storage(caught.value)).startswith(f"{path}: ")
    assert not list(tmp_path.iterdir())


def test_a_folder_lost_in_the_swap_is_put_back(tmp_path: Path) -> None:
    old = tmp_path / f".out.{OURS}.old"
    old.mkdir()
    (old / "content").write_text("old")
    (tmp_path / f".out.{OURS}.partial").mkdir()

    with pytest.raises(RuntimeError), folder_written_aside(tmp_path / "out"):
        assert (tmp_path / "out" / "content").read_text() == "old"
        raise RuntimeError

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "content").read_text() == "old"


def test_a_swap_that_fails_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "content").write_text("old")
    replace = os.replace

    def fail_for_new(source: Path, target: Path) -> None:
        if Path(source).suffix == ".partial":
            raise OSError("disk")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_new)
    with pytest.raises(OSError, match="disk"), folder_written_aside(folder) as aside:
        (aside / "content").write_text("new")

    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (folder / "content").read_text() == "old"


def test_all_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = os.replace

    def note(source: Path, target: Path) -> None:
        done.append(f"rename {Path(target).name}")
        replace(source, target)

    def sync(handle: int) -> None:
        done.append(re.sub(r"\.\d+\.", ".#.", Path(os.readlink(f"/proc/self/fd/{handle}")).name))

    monkeypatch.setattr(os, "replace", note)
    monkeypatch.setattr(os, "fsync", sync)
    write_text(tmp_path / "a.txt", "whole")
    assert done == [".a.#.partial.txt", "rename a.txt", tmp_path.name]
    done.clear()
    with folder_written_aside(tmp_path / "out") as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "one").touch()
    assert done == ["sub", "one", ".out.#.partial", "rename out", tmp_path.name]


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
