"""Lift the upper bounds of a pyproject.toml, so that uv may take the newest of each package.

    python .ci/newest.py COPY/pyproject.toml

For a copy that is thrown away: `uv lock --upgrade` never takes what a bound forbids, and a job that
does no more stays green while the project falls behind. Lifted are the bounds of the dependencies
and of their groups. What stands under [tool.uv] stays: combinations that are known not to work.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

# The end of TOML's tables that name packages to install.
_TOOLS = "[tool."
# `NAME[EXTRAS]VERSIONS`, quoted, in a list; a marker may follow.
_REQUIREMENT = re.compile(r'"(?P<name>[A-Za-z0-9._-]+(?:\[[^]]*\])?) *(?P<versions>[<>=!~][^";]*)')


def lift(text: str) -> str:
    """`text` without upper bounds; a version that was pinned is the least one."""
    head, tools, rest = text.partition(_TOOLS)
    lines = [
        # A key's value, such as requires-python, is no requirement.
        line if re.match(r"[\w-]+ *= *\"", line) else _REQUIREMENT.sub(_lifted, line)
        for line in head.splitlines(keepends=True)
    ]
    return "".join(lines) + tools + rest


def _lifted(found: re.Match[str]) -> str:
    kept = []
    for version in found["versions"].replace(" ", "").split(","):
        if version.startswith(("~=", "==")):
            kept.append(">=" + version.lstrip("~=").removesuffix(".*"))
        elif not version.startswith("<"):
            kept.append(version)
    return f'"{found["name"]}{",".join(kept)}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pyproject", type=Path)
    path = parser.parse_args().pyproject
    path.write_text(lift(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
