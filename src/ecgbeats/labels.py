"""Label schemes: tables from annotation symbols, or image folders, to a protocol's classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from ecgbeats.records import BEAT_SYMBOLS, KNOWN_SYMBOLS

UNLABELLED = -1


class LabelScheme(BaseModel):
    """Classes, in the order of a model's outputs, and what belongs to each.

    Attributes
    ----------
    source : str
        The standard or paper that the table comes from.
    classes : mapping of str to str or of str to list of str
        Class name to its annotation symbols, written as one string, or to the names of its
        folders in a dataset of images, as a list; the same for all classes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    classes: Mapping[str, str | tuple[str, ...]]

    @model_validator(mode="after")
    def _each_once(self) -> LabelScheme:
        if len({isinstance(group, str) for group in self.classes.values()}) > 1:
            raise ValueError("classes: expected symbols for all classes or folders for all")
        seen: dict[str, str] = {}
        for name, group in self.classes.items():
            for symbol in group:
                if isinstance(group, str) and symbol not in KNOWN_SYMBOLS:
                    raise ValueError(
                        f"class {name}: expected WFDB annotation symbols, got {symbol!r}"
                    )
                if symbol in seen:
                    kind = "symbol" if isinstance(group, str) else "folder"
                    raise ValueError(f"{kind} {symbol!r} is in class {seen[symbol]} and in {name}")
                seen[symbol] = name
        return self

    @cached_property
    def of_folders(self) -> bool:
        """Whether classes are folders of images, and not annotation symbols."""
        return any(not isinstance(group, str) for group in self.classes.values())

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.classes)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """All symbols, or folders, that have a class."""
        return frozenset(symbol for group in self.classes.values() for symbol in group)

    @cached_property
    def beats(self) -> frozenset[str]:
        """Symbols that count as a beat for RR intervals: the WFDB ones and this scheme's own."""
        return BEAT_SYMBOLS | self.symbols

    def encode(self, symbols: np.ndarray) -> np.ndarray:
        """Class index of each symbol or folder; `UNLABELLED` where the scheme has no class for it.

        Returns
        -------
        ndarray of int64, shape (n,)
        """
        index = {s: i for i, group in enumerate(self.classes.values()) for s in group}
        return np.array([index.get(str(s), UNLABELLED) for s in symbols], np.int64)
