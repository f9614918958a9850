"""What DVC and git kept of another commit or experiment: its files, without checking it out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecgbeats.errors import ConfigError, DataError

# Folders of what stages make, and of data that were added; all else that they depend on is code,
# which git keeps.
MADE = ("data", "reports")


class Revision:
    """The project as of a commit, branch, tag or DVC experiment.

    Attributes
    ----------
    commit : str
    """

    def __init__(self, root: Path, name: str) -> None:
        """Open it.

        Raises
        ------
        ConfigError
            Neither git nor DVC's experiments know `name`.
        """
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc.scm import RevError, resolve_rev
        from scmrepo.exceptions import SCMError

        try:
            repo = Repo(str(root))
            self.commit: str = resolve_rev(repo.scm, name)
            self._repo = Repo(str(root), rev=self.commit)
        except (RevError, SCMError, DvcException) as error:
            raise ConfigError(
                f"expected a commit, branch, tag or experiment of this project; got {name!r}"
            ) from error
        self._root = root

    def fetch(self, paths: Sequence[Path], folder: Path) -> list[Path]:
        """Bring files below the project, as they were then, below `folder`.

        From git, DVC's cache or, where they are not there, DVC's default remote.

        Parameters
        ----------
        paths : sequence of Path
            Absolute, in the present project.

        Raises
        ------
        DataError
            One was not there then, or is in no cache that can be reached.
        """
        from dvc.api import DVCFileSystem

        system: Any = DVCFileSystem(self._repo)
        brought = []
        for path in paths:
            name = path.relative_to(self._root).as_posix()
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                system.get_file(name, str(target))
            except Exception as error:  # storage raises what it likes
                raise DataError(
                    f"{name}: expected it as of {self.commit[:12]}, in git, in DVC's cache or its "
                    f"remote; got {type(error).__name__}: {error}"
                ) from error
            brought.append(target)
        return brought

    def inputs(self) -> dict[str, dict[str, Any]]:
        """What each stage was told then; see `inputs`."""
        return inputs(self._repo, self._root)


def inputs(repo: Any, root: Path) -> dict[str, dict[str, Any]]:
    """By stage, what decides it beside what other stages make: command, parameters and files.

    Files are those of code and, of data that were put under DVC as they are, the .dvc file: git
    keeps that, and it holds their hash.

    Parameters
    ----------
    repo : dvc.repo.Repo or None
        None for the working tree.
    """
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    repo = repo or Repo(str(root))
    sources = [stage for stage in repo.index.stages if stage.is_data_source]
    pointer_of = {out.fs_path: Path(each.path_in_repo) for each in sources for out in each.outs}
    found = {}
    for stage in repo.index.stages:
        code: list[str] = []
        params: dict[str, Any] = {}
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                params |= dep.read_params()
            elif Path(dep.def_path).parts[0] not in MADE:
                code.append(Path(dep.def_path).as_posix())
            elif dep.fs_path in pointer_of:
                code.append(pointer_of[dep.fs_path].as_posix())
        # That of a stage in dvc.yaml depends, as DVC gives it, on the working directory.
        name = str(getattr(stage, "name", None) or stage.addressing)
        found[name] = {"cmd": str(stage.cmd), "params": params, "code": sorted(code)}
    return found
