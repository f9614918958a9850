"""The life of a model on MIT-BIH, run for real: `python benchmarks/life.py --mirror DIR --out DIR`.

A champion learns half of DS1's patients. The other half arrives in two batches, the second first
with N and V exchanged. Each is checked, trained with, compared, judged and promoted; a model that
is worse on purpose is blocked; the champion is rolled back; recordings whose amplitude changed are
sent to the service; what is served is traced back. DS2 is the frozen test side throughout, as in
the recipe `mitdb-aami5`, of which this is one network instead of four.

The project is cloned into the folder, with its last commit, and gets an environment of its own; all
that happens is done by the commands that a user has. They are printed with what they said, and
`life.md` holds them. docs/life.md tells what came of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import yaml

HERE = Path(__file__).resolve().parent.parent
RECIPE = "life"
# Every second patient of DS1; the others come later, in two batches.
FIRST = ("101", "108", "112", "115", "118", "122", "201", "205", "208", "215", "223")
LATER = {
    "autumn": ("106", "109", "114", "116", "119", "124"),
    "winter": ("203", "207", "209", "220", "230"),
}
SUFFIXES = (".hea", ".dat", ".atr")
# Commands that are expected to say no, by what they exit with.
REJECTED, REFUSED, DRIFTED = 1, 2, 3


class Life:
    """A clone of the project, and a protocol of what was done in it."""

    def __init__(self, mirror: Path, out: Path) -> None:
        self.mirror, self.project, self.page = mirror, out / "project", out / "life.md"
        self._said: list[str] = [f"# The life of a model\n\nCommit `{commit()}`.\n"]

    def tell(self, heading: str) -> None:
        print(f"\n=== {heading}", flush=True)
        self._said.append(f"\n## {heading}\n")
        self._keep()

    def run(self, *words: str, expect: int = 0, lines: int = 14, only: str = "") -> str:
        """Run `ecgbeats` with `words`; stop where it exits otherwise than expected."""
        shown = "ecgbeats " + " ".join(f'"{w}"' if " " in w else w for w in words)
        print(f"\n$ {shown}", flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [self.project / ".venv/bin/ecgbeats", *words],
            cwd=self.project,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = [line.rstrip() for line in done.stdout.splitlines() if not _chatter(line)]
        kept = [line for line in said if re.search(only, line)] if only else said
        took = f"{time.monotonic() - began:.0f} s, exit status {done.returncode}"
        tail = "\n".join([*kept[-lines:], f"({took})"])
        print(tail, flush=True)
        self._said.append(f"```\n$ {shown}\n{tail}\n```\n")
        self._keep()
        if done.returncode != expect:
            print("\n".join(said[-40:]))
            raise SystemExit(f"{shown}: expected exit status {expect}, got {done.returncode}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "ECGBEATS_"))}
        return {**ours, "PATH": f"{self.project / '.venv/bin'}:{os.environ['PATH']}"}

    def params(self) -> dict[str, Any]:
        return dict(yaml.safe_load((self.project / "params.yaml").read_text("utf-8")))

    def write_params(self, params: dict[str, Any]) -> None:
        text = yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=98)
        (self.project / "params.yaml").write_text(text, "utf-8")

    def commit(self, message: str) -> None:
        git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run([*git, "add", "-A"], cwd=self.project, check=True)
        subprocess.run([*git, "commit", "-qm", message], cwd=self.project, check=True)

    def _keep(self) -> None:
        self.page.write_text("\n".join(self._said), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mirror", type=Path, required=True, help="folder with the MIT-BIH records"
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    life = Life(given.mirror.resolve(), given.out.resolve())
    begin(life)
    champion(life)
    first_batch(life)
    swapped_batch(life)
    second_batch(life)
    worse(life)
    rollback(life)
    drift(life)
    lineage(life)


def begin(life: Life) -> None:
    subprocess.run(["git", "clone", "-q", HERE, life.project], check=True)
    subprocess.run(["make", "setup"], cwd=life.project, check=True, stdout=subprocess.DEVNULL)
    params = life.params()
    tested = params["protocols"]["aami5"]["split"]["test_records"]
    folder = life.project.parent / "records"
    take(life.mirror, [*FIRST, *tested], folder / "hospital")
    for name, records in LATER.items():
        take(life.mirror, records, folder / name)
    of_mitdb = params["datasets"]["mitdb"]
    params["datasets"]["hospital"] = {
        "source": "wfdb-folder",
        "folder": str(folder / "hospital"),
        "licence": of_mitdb["licence"],
        "citation": of_mitdb["citation"],
        "patients": of_mitdb["patients"],
    }
    params["protocols"][RECIPE] = {
        **params["protocols"]["aami5"],
        "exclude_records": [],
        "split": {**params["protocols"]["aami5"]["split"], "train_records": list(FIRST)},
    }
    params["recipes"][RECIPE] = {
        **params["recipes"]["mitdb-aami5"],
        "dataset": "hospital",
        "protocol": RECIPE,
        "model": {**params["recipes"]["mitdb-aami5"]["model"], "kinds": []},
        "train": {**params["recipes"]["mitdb-aami5"]["train"], "members": 1},
    }
    params["additions"] = {**params["additions"], "labels": RECIPE, "recipe": RECIPE}
    life.write_params(params)
    life.commit("A recipe on half of DS1's patients")


def champion(life: Life) -> None:
    life.tell("A champion, trained on 11 of DS1's 22 patients")
    life.run("run", RECIPE, only=_OF_RUN)
    life.commit("Champion of 11 patients")


def first_batch(life: Life) -> None:
    life.tell("A first batch: six more patients")
    learn(life, "autumn", "six more patients")


def swapped_batch(life: Life) -> None:
    life.tell("A second batch arrives with N and V exchanged")
    folder = life.project.parent / "records/winter-exchanged"
    exchange(life.project.parent / "records/winter", folder, {"N": "V", "V": "N"})
    life.run("data", "add", "winter", str(folder), expect=REFUSED, lines=20)
    life.run("data", "list")


def second_batch(life: Life) -> None:
    life.tell("The batch again, put right")
    learn(life, "winter", "five more patients")


def learn(life: Life, batch: str, why: str) -> None:
    """Add a batch, train with it, compare, promote."""
    life.run("data", "add", batch, str(life.project.parent / "records" / batch))
    life.run("retrain", RECIPE, "--with", batch, only=_OF_RUN)
    life.run("compare", f"{RECIPE}@champion", f"{RECIPE}@challenger")
    life.run("promote", RECIPE, "--by", "Ada", "--reason", why, lines=6)
    life.commit(f"With {why}")


def worse(life: Life) -> None:
    life.tell("A challenger that is worse on purpose: one epoch, a tenth of the learning rate")
    good = (life.project / "params.yaml").read_bytes()
    params = life.params()
    params["recipes"][RECIPE]["train"] |= {"epochs": 1, "learning_rate": 0.0002}
    life.write_params(params)
    life.run("run", RECIPE, expect=REJECTED, only=f"{_OF_RUN}|failed|macro")
    life.run("status", RECIPE)
    (life.project / "params.yaml").write_bytes(good)
    git = ["git", "checkout", "-q", "--", "dvc.lock", "reports"]
    subprocess.run(git, cwd=life.project, check=True)


def rollback(life: Life) -> None:
    life.tell("Back to the champion before")
    life.run("rollback", RECIPE, "--by", "Ada", "--reason", "alarms on ward 3")
    life.run("promote", RECIPE, "--version", "3", "--by", "Ada", "--reason", "false alarm", lines=6)
    life.run("status", RECIPE)


def drift(life: Life) -> None:
    life.tell(
        "Five windows of recordings; from the second on, amplitudes are half of what they were"
    )
    tested = life.params()["protocols"][RECIPE]["split"]["test_records"]
    log = life.project.parent / "service.jsonl"
    windows = [tested[i : i + 4] for i in range(0, 20, 4)]
    with served(life, log) as address:
        for number, records in enumerate(windows, start=1):
            for record in records:
                send(life.mirror, record, address, gain=1.0 if number == 1 else 2.0)
            size = ("--window-size", str(4 * 64))
            expect = DRIFTED if number >= 3 else 0
            words = ("monitor", RECIPE, "--log", str(log), *size)
            print(f"window {number}: {' '.join(records)}")
            life.run(*words, expect=expect)


def lineage(life: Life) -> None:
    life.tell("What is served, traced back")
    life.run("lineage", f"ecgbeats-{RECIPE}@champion", lines=30)


@contextmanager
def served(life: Life, log: Path) -> Iterator[str]:
    """The champion's service; its log goes to a file."""
    port = 3700
    with log.open("w") as sink:
        process = subprocess.Popen(
            [life.project / ".venv/bin/ecgbeats", "serve", RECIPE, "--port", str(port)],
            cwd=life.project,
            env=life.environment(),
            stdout=sink,
            stderr=subprocess.DEVNULL,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                try:
                    if requests.get(f"{address}/readyz", timeout=2).ok:
                        break
                except requests.RequestException:
                    pass
                time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def send(mirror: Path, record: str, address: str, *, gain: float) -> None:
    """Send a record whose header says `gain` times the units per millivolt that it has."""
    header = (mirror / f"{record}.hea").read_text("ascii")
    header = re.sub(r"^(\S+\.dat \S+ )200\b", rf"\g<1>{200 * gain:g}", header, flags=re.M)
    files = [
        ("file", (f"{record}.hea", header.encode("ascii"))),
        ("file", (f"{record}.dat", (mirror / f"{record}.dat").read_bytes())),
    ]
    requests.post(f"{address}/classify_record", files=files, timeout=120).raise_for_status()


def take(mirror: Path, records: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True)
    for record in records:
        for suffix in SUFFIXES:
            shutil.copy(mirror / f"{record}{suffix}", folder)


def exchange(source: Path, folder: Path, swap: dict[str, str]) -> None:
    """Copy records with some beat labels exchanged."""
    import wfdb

    shutil.copytree(source, folder)
    for path in sorted(folder.glob("*.hea")):
        labels = wfdb.rdann(str(source / path.stem), "atr")
        symbols = [swap.get(symbol, symbol) for symbol in labels.symbol]
        (folder / f"{path.stem}.atr").unlink()
        wfdb.wrann(
            path.stem,
            "atr",
            labels.sample,
            symbol=symbols,
            aux_note=labels.aux_note,
            fs=labels.fs,
            write_dir=str(folder),
        )


def commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        asked, cwd=HERE, check=True, capture_output=True, text=True
    ).stdout.strip()


_OF_RUN = (
    r"^\s*(test side|macro-F1|accuracy|[NSVF] +Se|gate|champion|registered|bento|release|"
    r"GateFailed|fetch|unite|train)\b"
)


def _chatter(line: str) -> bool:
    return " | INFO " in line or line.startswith(("See https", "WARNING")) or not line.strip()


if __name__ == "__main__":
    main()
