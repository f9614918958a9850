"""Networks by name. Importing this package imports no Keras; building one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.spec import Spec

if TYPE_CHECKING:
    import keras


Builder = Callable[..., "keras.Model"]


def _compact(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.compact import build

    return build(spec, classes, **options)


BUILDERS: dict[str, Builder] = {"compact": _compact}


def build_model(name: str, spec: Spec, classes: int, **options: Any) -> keras.Model:
    """The untrained network `name` for images of `spec`.

    Input: float32 (n, rows, columns, 1), pixel values 0 to 255. Output: float32
    (n, classes), probabilities.

    Raises
    ------
    ConfigError
        No such network, or it has no such option.
    """
    if name not in BUILDERS:
        raise ConfigError(f"model.name: expected one of {', '.join(BUILDERS)}; got {name!r}")
    try:
        return BUILDERS[name](spec, classes, **options)
    except TypeError as error:
        raise ConfigError(f"model.options of {name}: {error}") from error
