"""`ecgbeats data add`: examined, put in place, put under DVC; all of it or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ecgbeats import cluster
from ecgbeats.additions.adding import Examined, Judges, Request, examine, quarantine_csv
from ecgbeats.additions.archives import opened
from ecgbeats.additions.page import quarantine_lines, render_addition, summary_lines
from ecgbeats.config import Params
from ecgbeats.errors import ConfigError, ContractError, DataError, ValidationFailed
from ecgbeats.files import (
    canonical_json,
    folder_written_aside,
    sha256_text,
    sha256_tree,
    write_text,
)
from ecgbeats.labels import LabelScheme
from ecgbeats.validation.facts import class_column
from ecgbeats.validation.report import Summary
from pipelines import added, dag, model_folder, placing
from pipelines.added import Entry, Version
from pipelines.neighbours import known_records, patients_elsewhere
from pipelines.provenance import user_of

REFUSED, DOCS = "refused", "data_docs"
CARRIED = "bento/carried"


@dataclass(frozen=True)
class Options:
    """What the caller says of the data.

    Attributes
    ----------
    annotator : str
        Suffix of the annotation files, with or without its dot.
    labels : str or None
        Protocol whose label scheme counts the classes.
    against : tuple of str
        Datasets to look for twins in; by default all that are here.
    ask_model : bool
    labels_trusted : str or None
        Why expectations about labels are not to stop it.
    """

    annotator: str = "atr"
    patients: Path | str | None = None
    licence: str = "not stated"
    citation: str = "not stated"
    labels: str | None = None
    against: tuple[str, ...] = ()
    ask_model: bool = True
    labels_trusted: str | None = None
    exclude_paced: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "annotator", self.annotator.removeprefix("."))

    def of_content(self) -> str:
        """What of it decides what is stored."""
        patients = self.patients
        if isinstance(patients, Path):
            # Whatever it holds; that it must be UTF-8 is said where it is taken apart.
            patients = patients.read_text(encoding="utf-8-sig", errors="surrogateescape")
        return canonical_json(
            {
                "annotator": self.annotator,
                "patients": patients,
                "licence": self.licence,
                "citation": self.citation,
                "labels": self.labels,
                "exclude_paced": self.exclude_paced,
            }
        )


@dataclass(frozen=True)
class Outcome:
    """What came of it; `changed` is false where nothing was done."""

    entry: Entry
    changed: bool
    lines: tuple[str, ...] = ()


def add(
    root: Path,
    params: Params,
    name: str,
    path: Path,
    options: Options,
    tell: Callable[[str], None],
) -> Outcome:
    """Add the records or pictures of `path`, a folder or zip, as dataset `name`.

    Raises
    ------
    ConfigError
        The name is taken, or an option does not fit.
    ValidationFailed
        The batch is refused; the message names the expectations, the page shows all.
    DataError
        There is nothing to be added.
    """
    check_name(params, name)
    with placing.alone(root), opened(path) as folder:
        placing.recover(root, name)
        source = sha256_text(sha256_tree(folder) + options.of_content())
        before = added.find(root, name, unfinished=True)
        # The page is put in place last.
        paged = added.page_of(root, name).is_file()
        if (
            before is not None
            and before.source == source
            and paged
            and placing.as_listed(root, name)
        ):
            return Outcome(before, changed=False)
        request = Request(
            name=name,
            folder=folder,
            version="records",
            annotator=options.annotator,
            licence=options.licence,
            citation=options.citation,
            patients=options.patients,
            exclude_paced=options.exclude_paced,
        )
        pictures = not _has_records(folder)
        scheme = _scheme(params, options.labels, pictures)
        with _page(root, name) as page:
            with folder_written_aside(placing.fresh_of(root, name)) as aside:
                if pictures:
                    entry, lines = _add_pictures(request, path, scheme, aside, page, source)
                else:
                    entry, lines = _add_records(
                        root, params, request, options, scheme, aside, page, source, tell
                    )
            entry = replace(entry, labels_trusted=options.labels_trusted)
            with placing.in_place(root, name):
                return _settle(root, before, entry, lines)


def check_name(params: Params, name: str) -> None:
    """Make sure that an addition may be called `name`."""
    import re

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ConfigError(f"data: expected a name of a-z, 0-9 and -, got {name!r}")
    if "with" in name.split("-"):
        raise ConfigError(
            f"data: expected a name without the word 'with', as unions have: {name!r}"
        )
    if name in params.datasets or name in params.unions:
        raise ConfigError(f"data: params.yaml has a dataset {name!r} already; choose another name")


def _has_records(folder: Path) -> bool:
    return (folder / "RECORDS").is_file() or any(folder.rglob("*.hea"))


def _scheme(params: Params, protocol: str | None, pictures: bool) -> LabelScheme:
    """The scheme that was asked for; else that of params.yaml; else the first that fits."""
    if protocol is None and not pictures:
        protocol = params.additions.labels
    if protocol is None:
        fitting = [n for n, each in params.protocols.items() if each.labels.of_folders == pictures]
        if not fitting:
            kind = "pictures" if pictures else "recordings"
            raise ConfigError(f"labels: params.yaml has no protocol for {kind}")
        protocol = fitting[0]
    scheme = params.scheme(protocol)
    if scheme.of_folders != pictures:
        kind = "image folders" if pictures else "annotation symbols"
        raise ConfigError(f"labels: expected a protocol whose classes are of {kind}: {protocol}")
    return scheme


@contextmanager
def _page(root: Path, name: str) -> Iterator[Path]:
    """A new folder for the page, which takes the place of the old one, or of the last refusal.

    Where the batch is refused, the page of what is there already stays. Where the batch is not to
    blame (DVC, an interrupt), there is no new page.
    """
    place = added.page_of(root, name).parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=place) as scratch:
        fresh = Path(scratch) / "page"
        fresh.mkdir()
        try:
            yield fresh
        except (ConfigError, ContractError, DataError):
            if any(fresh.iterdir()):
                shutil.rmtree(place / REFUSED, ignore_errors=True)
                os.replace(fresh, place / REFUSED)
            raise
        for old in place.iterdir():
            if old.name != Path(scratch).name:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for new in list(fresh.iterdir()):
            os.replace(new, place / new.name)


def _add_records(
    root: Path,
    params: Params,
    request: Request,
    options: Options,
    scheme: LabelScheme,
    out: Path,
    page: Path,
    source: str,
    tell: Callable[[str], None],
) -> tuple[Entry, list[str]]:
    known = known_records(root, params, request.name, options.against)
    with tempfile.TemporaryDirectory(".ecgbeats-model", ".", cluster.scratch()) as scratch:
        model, about = None, "was not asked"
        if options.ask_model and params.additions.agreement:
            model, about = _judge_model(root, params, scheme, Path(scratch))
        tell(f"data {request.name}: {len(known.times)} known records; model: {about}")
        judges = Judges(
            scheme,
            known,
            model,
            params.additions.agreement,
            labels_trusted=options.labels_trusted,
            patients=patients_elsewhere(root, params, request.name),
        )
        docs = page / DOCS
        examined = examine(request, judges, out, docs=docs)
    heads = {"model": about}
    if options.labels_trusted:
        heads["labels trusted"] = options.labels_trusted
    html = render_addition(
        request, examined, scheme, about=heads, docs=f"{DOCS}/index.html" if docs.is_dir() else None
    )
    write_text(page / "index.html", html)
    write_text(page / "quarantine.csv", quarantine_csv(examined.quarantine))
    if not examined.usable:
        _refuse(root, request.name, examined)
    assert examined.facts is not None
    facts = examined.facts.records
    entry = Entry(
        name=request.name,
        kind="recordings",
        source=source,
        records=len(facts),
        patients=int(facts["patient"].nunique()),
        beats={each: int(facts[class_column(each)].sum()) for each in scheme.names},
        quarantined=len({each.record for each in examined.quarantine}),
        licence=request.licence,
        citation=request.citation,
    )
    return entry, summary_lines(request, examined, scheme)


def _refuse(root: Path, name: str, examined: Examined) -> None:
    page = added.page_of(root, name).parent / REFUSED / "index.html"
    if examined.manifest is None:
        lines = "\n".join(quarantine_lines(examined.quarantine))
        raise ValidationFailed(
            f"data {name}: not added, no record is usable:\n{lines}\n  page        {page}"
        )
    try:
        Summary(f"data {name}: not added", (), examined.outcomes, ()).raise_if_critical()
    except ValidationFailed as error:
        raise ValidationFailed(f"{error}\n  page        {page}") from None


def _add_pictures(
    request: Request, path: Path, scheme: LabelScheme, out: Path, page: Path, source: str
) -> tuple[Entry, list[str]]:
    from ecgbeats.additions.pictures import counts_of, examine_pictures

    if request.patients is not None:
        raise ConfigError("patients: pictures have none; twins are put together by what they show")
    manifest, summary = examine_pictures(
        request.name,
        path,
        scheme,
        out,
        page,
        licence=request.licence,
        citation=request.citation,
        docs=page / DOCS,
    )
    summary.raise_if_critical()
    counts = counts_of(out, scheme)
    if not any(counts.values()):
        raise ConfigError(
            f"data {request.name}: expected folders of the classes "
            f"{', '.join(sorted(scheme.symbols))}; found {', '.join(manifest.pictures)}"
        )
    entry = Entry(
        name=request.name,
        kind="pictures",
        source=source,
        records=sum(manifest.pictures.values()),
        patients=manifest.groups,
        beats=counts,
        quarantined=sum(manifest.quarantined.values()),
        licence=request.licence,
        citation=request.citation,
    )
    said = ", ".join(f"{reason} {count}" for reason, count in manifest.quarantined.items())
    return entry, [
        "  pictures    " + ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        f"  quarantined {said or 'none'}",
    ]


def _judge_model(
    root: Path, params: Params, scheme: LabelScheme, scratch: Path
) -> tuple[Path | None, str]:
    """The champion that new labels are held against, else the carried model; and its name."""
    folder, about = root / CARRIED, f"carried ({CARRIED})"
    recipe = params.additions.recipe
    # No registry is made for this: where nothing ran there is no champion.
    if recipe is not None and _has_registry(root):
        from pipelines import registry

        champion = registry.champion(recipe)
        if champion is not None:
            folder = registry.fetch_model(champion, scratch)
            about = f"{champion.name} version {champion.version} (champion)"
    if not folder.is_dir():
        return None, "was not asked: there is none"
    if set(model_folder.load(folder).classes) != set(scheme.names):
        return None, f"was not asked: {about} answers other classes"
    return folder, about


def _has_registry(root: Path) -> bool:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return (root / "mlflow.db").is_file() or not uri.startswith("sqlite:")


def _settle(root: Path, before: Entry | None, entry: Entry, lines: Sequence[str]) -> Outcome:
    """Put the folder, which is in place, under DVC, and list it."""
    md5 = dag.track(root, added.folder_of(root, entry.name))
    history = list(before.history) if before is not None else []
    if before is not None and history[-1].md5 == md5:
        # Other packing of the same.
        added.write(root, before)
        return Outcome(before, changed=False)
    version = Version(
        number=history[-1].number + 1 if history else 1,
        md5=md5,
        added=datetime.now(UTC).date().isoformat(),
        by=user_of(root),
    )
    entry = replace(entry, history=[*history, version])
    added.write(root, entry)
    return Outcome(entry, changed=True, lines=tuple(lines))
