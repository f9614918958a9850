"""Images as of other leads: a lead upside down, two exchanged, one missing.

Of panels that show polarity, and of the values below them, an image of the recording with its
electrodes exchanged follows from the image itself, to a grey level: the transform is linear, and
what a lead is measured by does not depend on its sign.
"""

from __future__ import annotations

import numpy as np

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.features import upside_down
from ecgbeats.imaging.spec import CompositeSpec, ScalogramSpec, Spec

Signed = CompositeSpec | ScalogramSpec
# Grey of zero, and of a lead that is not there.
_ZERO = 128


def signed(spec: Spec) -> Signed:
    """`spec`, if its panels show polarity.

    Raises
    ------
    ConfigError
        They do not, or there are no panels.
    """
    if isinstance(spec, CompositeSpec) or (
        isinstance(spec, ScalogramSpec) and spec.value == "signed"
    ):
        return spec
    raise ConfigError(
        f"train.augment.leads of {spec.representation}: expected panels of signed values, as of "
        "composite, which another lead's can be told from"
    )


def invert(images: np.ndarray, chosen: np.ndarray, spec: Signed, lead: int) -> None:
    """Turn a lead (from 0) of the images `chosen` upside down, in place.

    Parameters
    ----------
    images : ndarray of float32, shape (n, rows, columns)
        Grey levels.
    chosen : ndarray of int, shape (m,)
    """
    rows = spec.rows_of_lead(lead)
    images[chosen, rows] = 2 * _ZERO - images[chosen, rows]
    if spec.value_rows_per_lead:
        assert isinstance(spec, CompositeSpec)
        source, sign = upside_down(spec.morphology)
        below = _values(spec, lead)
        drawn = images[chosen, below]
        flat = drawn.reshape(len(chosen), spec.value_rows_per_lead * spec.width)
        flat[:, : len(source)] = _ZERO + sign * (flat[:, source] - _ZERO)
        images[chosen, below] = flat.reshape(drawn.shape)


def exchange(images: np.ndarray, chosen: np.ndarray, spec: Signed) -> None:
    """Exchange the two leads of the images `chosen`, in place; not with one that is not there."""
    second = images[chosen, spec.rows_of_lead(1)]
    chosen = chosen[(second != _ZERO).any(axis=(1, 2))]
    for rows_of in (spec.rows_of_lead, lambda lead: _values(spec, lead)):
        first, second = (images[chosen, rows_of(lead)].copy() for lead in (0, 1))
        images[chosen, rows_of(0)], images[chosen, rows_of(1)] = second, first


def remove(images: np.ndarray, chosen: np.ndarray, spec: Signed) -> None:
    """Empty the second lead of the images `chosen`, in place, as where a recording has one."""
    for rows in (spec.rows_of_lead(1), _values(spec, 1)):
        images[chosen, rows] = _ZERO


def _values(spec: Signed, lead: int) -> slice:
    """Rows of values that a lead (from 0) has; none in most images."""
    rows = spec.value_rows_per_lead
    top = spec.rows_of_values.start + lead * rows
    return slice(top, top + rows)
