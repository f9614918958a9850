"""From the recordings to the bento, hash by hash, and what of it can be verified here.

raw data -> images -> weights -> version in MLflow -> bento -> commits of the code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ecgbeats.errors import ConfigError, ContractError, ServiceError
from ecgbeats.files import sha256_file
from ecgbeats.inference import CARD, KERAS, ONNX
from ecgbeats.models import is_estimator
from ecgbeats.weights import weights_hash
from pipelines import ledger, registry
from pipelines.bentos import Held, held
from pipelines.dag import cached_state
from pipelines.model_folder import card_of, load
from pipelines.packaging import bento_folder
from pipelines.provenance import has_commit
from pipelines.registered_files import differences, untagged
from pipelines.registry import CLASSIFIER, Registered
from pipelines.stored import src_as_built

State = Literal["verified", "not here", "DIFFERS"]
# Labels of a bento that repeat tags of its version.
_REPEATED = ("data_hash", "images_hash", "weights_sha256", "spec_id")


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes
    ----------
    what : str
    name : str
        The hash, or the name, that the chain goes on by.
    state : str
        "verified": what lies here is what the chain says. "not here": it cannot be reached
        from this machine. "DIFFERS": it is here, and is something else.
    how : str
        What was looked at.
    """

    what: str
    name: str
    state: State
    how: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def lineage(root: Path, reference: str) -> list[Link]:
    """The chain that leads to a bento tag or a model version (`name/3`, `name@champion`).

    Raises
    ------
    ConfigError
        Neither this machine's bento store nor the registry knows it.
    """
    version, bento = _resolved(reference)
    with tempfile.TemporaryDirectory(prefix="ecgbeats-lineage-") as scratch:
        return list(_links(root, version, bento, Path(scratch)))


def in_words(links: list[Link]) -> str:
    """The chain as lines for people."""
    width = max(len(link.what) for link in links)
    return "\n".join(
        f"{link.what:<{width}}  {link.state:<8}  {link.name}  ({link.how})" for link in links
    )


def _resolved(reference: str) -> tuple[Registered, str | None]:
    """The version, and the bento, that `reference` is about."""
    name, colon, _ = reference.partition(":")
    if not colon or name == "models":
        version = registry.find(reference)
        return version, version.tags.get("bento")
    here = held(reference)
    if here is not None:
        return registry.version_of(name, int(here.labels["model_version"])), reference
    for entry in reversed(ledger.finished(name).entries):
        if entry.bento == reference:
            return registry.version_of(name, entry.aliases["champion"]), reference
    raise ConfigError(
        f"lineage: expected a bento of this machine's store or of the promotion log, or a model "
        f"version as <name>/<version>; got {reference!r}"
    )


def _links(root: Path, version: Registered, bento: str | None, scratch: Path) -> Iterator[Link]:
    tags = version.tags
    for what, key in (("raw data", "data_hash"), ("images", "images_hash")):
        yield _of_dvc(root, what, tags[key])
    model = None
    try:
        model = registry.fetch_unchecked(version, scratch)
    except ServiceError as error:
        # Where the artifacts lie may be out of reach while the rest of the chain is not.
        yield Link("weights", tags["weights_sha256"], "not here", str(error))
        yield Link("network", "not known", "not here", f"MLflow, {CLASSIFIER}/")
    else:
        yield _weights(model, tags["weights_sha256"])
        yield _network(model, tags)
    yield _version(version)
    here = held(bento) if bento else None
    yield _bento(bento, here, model, version)
    dirty = tags["git_dirty"] == "true"
    yield _commit(root, "commit of the model", tags["git_commit"], dirty=dirty)
    if here is not None:
        yield _commit(root, "commit of the service", here.labels["git_commit"])


def _of_dvc(root: Path, what: str, digest: str) -> Link:
    states: dict[str, State] = {"whole": "verified", "absent": "not here", "damaged": "DIFFERS"}
    state = states[cached_state(root, digest)]
    return Link(what, digest, state, "DVC's cache, MD5 of every file")


def _weights(model: Path, wanted: str) -> Link:
    what, where = "weights", f"MLflow, {CLASSIFIER}/"
    try:
        card = card_of(model)
    except ContractError as error:
        return Link(what, wanted, "DIFFERS", f"{where}{CARD}: {error}")
    if card["weights_sha256"] != wanted:
        return Link(what, wanted, "DIFFERS", f"{where}{CARD} names others")
    found = weights_hash(model)
    if found is None and is_estimator(card["model"]["name"]):
        return Link(what, wanted, "verified", f"{where}{CARD}; a baseline has no archive")
    if found is None:
        return Link(what, wanted, "not here", f"{where}{KERAS} is gone; {CARD} names them")
    how = f"{where}{KERAS}, SHA-256 of its arrays"
    return Link(what, wanted, "verified" if found == wanted else "DIFFERS", how)


def _network(model: Path, tags: Mapping[str, str]) -> Link:
    """The network, with card and golden batch, against the tags of its version."""
    wanted, how = tags.get("onnx_sha256", "not known"), f"MLflow, {CLASSIFIER}/{ONNX}"
    if changed := differences(tags, model):
        return Link("network", wanted, "DIFFERS", "; ".join(changed))
    try:
        wanted = card_of(model)["onnx_sha256"]
        load(model)
    except ContractError as error:
        return Link("network", wanted, "DIFFERS", f"{how}: {error}")
    unknown = untagged(tags)
    than = f"in {CARD}; the version names none of {', '.join(unknown)}" if unknown else "of the tag"
    return Link("network", wanted, "verified", f"{how}, SHA-256 {than}")


def _version(version: Registered) -> Link:
    name = f"{version.name}/{version.version}"
    try:
        log = ledger.finished(version.name)
    except ContractError as error:
        return Link("version", name, "DIFFERS", str(error))
    except ServiceError as error:
        return Link("version", name, "not here", str(error))
    numbers = [str(entry.number) for entry in log.entries if entry.version == version.version]
    entries = f"entries {', '.join(numbers)}" if numbers else "no entry"
    return Link("version", name, "verified", f"MLflow; {entries} of an intact promotion log")


def _bento(bento: str | None, here: Held | None, model: Path | None, version: Registered) -> Link:
    if bento is None:
        return Link("bento", "none", "not here", "this version was never packaged")
    if here is None:
        return Link("bento", bento, "not here", "not in this machine's store")
    wanted = {key: version.tags[key] for key in _REPEATED} | {"model_version": str(version.version)}
    apart = [key for key, value in wanted.items() if here.labels.get(key) != value]
    if model is not None:
        files = {name: sha256_file(model / name) for name in (CARD, ONNX)}
        apart += [name for name, digest in files.items() if here.files.get(name) != digest]
    if apart:
        return Link("bento", bento, "DIFFERS", f"{', '.join(apart)} not as of the version")
    if not src_as_built(bento_folder(bento)):
        return Link("bento", bento, "DIFFERS", "its src/ is not what was packed")
    if model is None:
        return Link("bento", bento, "not here", "its model can be compared with nothing")
    how = f"its labels, and SHA-256 of its src/, {CARD} and {ONNX}"
    return Link("bento", bento, "verified", how)


def _commit(root: Path, what: str, commit: str, *, dirty: bool = False) -> Link:
    state: State = "verified" if has_commit(root, commit) else "not here"
    changes = "; there were changes that it does not hold" if dirty else ""
    return Link(what, commit, state, f"this checkout's git{changes}")
