"""Label schemes: tables from WFDB annotation symbols to the classes of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from ecgbeats.records import BEAT_SYMBOLS, KNOWN_SYMBOLS

UNLABELLED = -1


class LabelScheme(BaseModel):
    """Classes, in the order of a model's outputs, and the symbols that belong to each.

    Attributes
    ----------
    source : str
        The standard or paper that the table comes from.
    classes : mapping of str to str
        Class name to its annotation symbols, written as one string.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    classes: Mapping[str, str]

    @model_validator(mode="after")
    def _each_symbol_once(self) -> LabelScheme:
        seen: dict[str, str] = {}
        for name, symbols in self.classes.items():
            for symbol in symbols:
                if symbol not in KNOWN_SYMBOLS:
                    raise ValueError(
                        f"class {name}: expected WFDB annotation symbols, got {symbol!r}"
                    )
                if symbol in seen:
                    raise ValueError(f"symbol {symbol!r} is in class {seen[symbol]} and in {name}")
                seen[symbol] = name
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.classes)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """All symbols that have a class."""
        return frozenset("".join(self.classes.values()))

    @cached_property
    def beats(self) -> frozenset[str]:
        """Symbols that count as a beat for RR intervals: the WFDB ones and this scheme's own."""
        return BEAT_SYMBOLS | self.symbols

    def encode(self, symbols: np.ndarray) -> np.ndarray:
        """Class index of each symbol; `UNLABELLED` where the scheme has no class for it.

        Returns
        -------
        ndarray of int64, shape (n,)
        """
        index = {s: i for i, group in enumerate(self.classes.values()) for s in group}
        return np.array([index.get(str(s), UNLABELLED) for s in symbols], np.int64)
