"""What starting costs: `ecgbeats --help` against Python alone; with a project, a cached re-run.

    python benchmarks/starting.py [PROJECT RECIPE]

PROJECT is a checkout in which RECIPE has run. Its re-run does nothing but look, and is compared
with importing, in processes of their own, what it joins. Where anything is left to do it is not
run, and this says so. Processor seconds of all processes that are waited for. Run: make benchmark
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = Path(sys.executable).parent
ROUNDS = 5
IMPORTS = "import prefect, dvc.repo, mlflow, onnxruntime, pandas, pipelines.retrain"
SERVER = "import prefect.server.api.server"


def cost(*command: str, cwd: Path | None = None) -> tuple[float, float]:
    """Processor and wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.perf_counter() - began


def left_to_do(project: Path, recipe: str) -> str:
    """Why a re-run of `recipe` in `project` would do more than look; nothing if it would not."""
    if not (project / "reports" / recipe / "verdict.json").is_file():
        return "it has not run there"
    # A verdict is in git; what it was made of may be elsewhere, or of other code.
    target = f"verdict@{recipe}"
    asked = subprocess.run(
        [str(SCRIPTS / "dvc"), "status", "--json", "--with-deps", target],
        cwd=project,
        capture_output=True,
        text=True,
    )
    if asked.returncode:
        return f"dvc status: {asked.stderr.strip()}"
    changed = json.loads(asked.stdout)
    return f"not as DVC has it: {', '.join(sorted(changed))}" if changed else ""


def main() -> None:
    sides = {"python -c pass": [sys.executable, "-c", "pass"]}
    sides["ecgbeats --help"] = [str(SCRIPTS / "ecgbeats"), "--help"]
    found = {name: [cost(*command)[0] for _ in range(ROUNDS)] for name, command in sides.items()}
    bare = statistics.median(found["python -c pass"])
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:<18} {middle:>7.3f} processor s {middle / bare:>6.1f} x")
    if len(sys.argv) == 3:
        project, recipe = Path(sys.argv[1]), sys.argv[2]
        os.environ["PATH"] = f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        if why := left_to_do(project, recipe):
            print(f"a cached re-run of {recipe} in {project.resolve()} is skipped: {why}")
            return
        imports = cost(sys.executable, "-c", IMPORTS)[0] + cost(sys.executable, "-c", SERVER)[0]
        rerun, wall = cost(str(SCRIPTS / "ecgbeats"), "run", recipe, cwd=project)
        print(f"bare imports       {imports:>7.1f} processor s")
        print(
            f"a cached re-run    {rerun:>7.1f} processor s {rerun / imports:>6.1f} x ({wall:.0f} s)"
        )


if __name__ == "__main__":
    main()
