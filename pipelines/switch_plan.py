"""What the switch is to do, who gets whose answer, and whether two answers agree."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecgbeats.errors import ConfigError

# Differing beats that a comparison tells one by one.
_TOLD = 10


def _base_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"expected an address as http://127.0.0.1:3001; {error}") from error
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError("expected an address as http://127.0.0.1:3001")
    return text.rstrip("/")


Url = Annotated[str, AfterValidator(_base_url)]


class Plan(BaseModel):
    """Who answers.

    Attributes
    ----------
    champion, challenger : str
        Addresses of two running bentos.
    share : float
        Of the clients, from 0 to 1: those whom the challenger answers; with `shadow`, those
        whose requests it gets a copy of.
    shadow : bool
        Whether the challenger gets copies alone, and nobody sees its answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: Url
    challenger: Url | None = None
    share: float = Field(default=0.0, ge=0.0, le=1.0)
    shadow: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        if self.challenger is None and (self.share or self.shadow):
            raise ValueError("share and shadow need a challenger")
        if self.challenger == self.champion:
            raise ValueError("champion and challenger are the same address")
        return self


def make_plan(values: Mapping[str, Any], source: str) -> Plan:
    """The plan of these values.

    Raises
    ------
    ConfigError
        One of them is unknown or impossible; it names `source`.
    """
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        raise ConfigError(f"{source}: {where}: {first['msg']}") from error


def read_plan(path: Path) -> Plan:
    """The plan in a control file (YAML or JSON).

    Raises
    ------
    ConfigError
        It cannot be read, or is no plan.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a control file of the switch; {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected champion, challenger, share and shadow, got {values}")
    return make_plan(values, str(path))


def is_within(key: str, share: float) -> bool:
    """Whether the client named `key` is in this share of all.

    Always the same answer for the same key, and nobody leaves a share that grows.
    """
    digest = hashlib.sha256(f"ecgbeats-switch\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass(frozen=True)
class Comparison:
    """Two answers to one request, beat by beat.

    Attributes
    ----------
    beats, different : int
        Compared; and those of another label.
    largest_difference : float
        Of a probability, over all beats; of confidence where classes differ.
    pairs : Counter
        Beats by the champion's and the challenger's label.
    told : list of dict
        The first that differ. No pixel, no sample.
    """

    beats: int
    different: int
    largest_difference: float
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: list[dict[str, Any]] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return not self.different


def compare(champion: Any, challenger: Any) -> Comparison | None:
    """Compare the JSON of two answers; None where they are no classification.

    Beats of a recording are held together by their sample: of one that only one of the two
    found, the other's label is "none".
    """
    ours, theirs = _beats(champion), _beats(challenger)
    if ours is None or theirs is None:
        return None
    pairs: Counter[tuple[str, str]] = Counter()
    told: list[dict[str, Any]] = []
    largest = 0.0
    for place in sorted({*ours, *theirs}):
        one, other = ours.get(place), theirs.get(place)
        labels = (_label(one), _label(other))
        pairs[labels] += 1
        largest = max(largest, _apart(one, other))
        if labels[0] != labels[1] and len(told) < _TOLD:
            told.append(
                {
                    "place": place,
                    "champion": {"label": labels[0], "confidence": _confidence(one)},
                    "challenger": {"label": labels[1], "confidence": _confidence(other)},
                }
            )
    different = sum(count for (one, other), count in pairs.items() if one != other)
    return Comparison(sum(pairs.values()), different, largest, pairs, told)


def _beats(answer: Any) -> dict[int, Mapping[str, Any]] | None:
    """Beats of an answer by file or sample."""
    if not isinstance(answer, dict):
        return None
    for several, place in (("results", "file"), ("beats", "sample")):
        found = answer.get(several)
        if isinstance(found, list):
            try:
                return {int(beat[place]): beat for beat in found}
            except (KeyError, TypeError, ValueError):
                return None
    return None


def _label(beat: Mapping[str, Any] | None) -> str:
    return "none" if beat is None else str(beat.get("label"))


def _confidence(beat: Mapping[str, Any] | None) -> float | None:
    given = None if beat is None else beat.get("probabilities")
    return round(max(given.values()), 6) if given else None


def _apart(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> float:
    if one is None or other is None:
        return 1.0
    ours, theirs = one.get("probabilities") or {}, other.get("probabilities") or {}
    if set(ours) != set(theirs):
        return abs((_confidence(one) or 0.0) - (_confidence(other) or 0.0))
    return max((abs(ours[name] - theirs[name]) for name in ours), default=0.0)
