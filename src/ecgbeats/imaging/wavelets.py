"""Continuous wavelet transforms of a window at fixed times and scales, as matrices.

Such a transform is linear in the window, so that one matrix product transforms all beats of
a recording; a complex wavelet has two matrices, of its real and of its imaginary part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ecgbeats.imaging.spec import CompositeSpec, ScalogramSpec

# Angular frequency of the Morlet wavelet, per standard deviation of its Gaussian: five
# oscillations under the envelope, as pywt's "morl".
MORLET_OMEGA = 5.0


@dataclass(frozen=True)
class Wavelet:
    """A wavelet as a function of u, the time in standard deviations of its Gaussian.

    Attributes
    ----------
    parts : tuple of callables
        The wavelet, or the real and imaginary part of a complex one.
    peak : float
        Angular frequency, per unit of u, at which its spectrum is largest.
    positive : float
        Area under its positive lobes (of the real part).
    support : float
        Beyond this |u| it is taken as zero.
    """

    parts: tuple[Callable[[np.ndarray], np.ndarray], ...]
    peak: float
    positive: float
    support: float


def _gauss(u: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-(u**2) / 2))


def _hat(u: np.ndarray) -> np.ndarray:
    return np.asarray((1 - u**2) * _gauss(u))


def _gaus1(u: np.ndarray) -> np.ndarray:
    return np.asarray(u * _gauss(u))


def _gaus3(u: np.ndarray) -> np.ndarray:
    return np.asarray((3 * u - u**3) * _gauss(u))


def _gaus4(u: np.ndarray) -> np.ndarray:
    return np.asarray((3 - 6 * u**2 + u**4) * _gauss(u))


def _cosine(u: np.ndarray) -> np.ndarray:
    return np.asarray(np.cos(MORLET_OMEGA * u) * _gauss(u))


def _sine(u: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(MORLET_OMEGA * u) * _gauss(u))


def _positive_area(wave: Callable[[np.ndarray], np.ndarray]) -> float:
    u = np.linspace(-8, 8, 20_001)
    return float(np.trapezoid(np.maximum(wave(u), 0), u))


# Derivatives of the Gaussian, signed so that the transform is positive on an upward wave
# (even ones) or a rising edge (odd ones). The second is the Mexican hat.
WAVELETS: dict[str, Wavelet] = {
    # Four standard deviations keep all but 0.3 % of the hat's weight and a third of the window.
    "mexican_hat": Wavelet((_hat,), np.sqrt(2), 2 * np.exp(-0.5), 4.0),
    "gaus1": Wavelet((_gaus1,), 1.0, 1.0, 4.0),
    "gaus3": Wavelet((_gaus3,), np.sqrt(3), _positive_area(_gaus3), 5.0),
    "gaus4": Wavelet((_gaus4,), 2.0, _positive_area(_gaus4), 5.0),
    "morlet": Wavelet((_cosine, _sine), MORLET_OMEGA, _positive_area(_cosine), 4.0),
}


@dataclass(frozen=True)
class Transform:
    """A transform of windows that reach from `before` samples before R to `after` after it.

    Attributes
    ----------
    matrices : tuple of ndarray of float32, shape (before + after, rows * columns)
        One, or those of the real and the imaginary part.
    shape : tuple of int
        Rows (the finest scale first) and columns (times, increasing).
    """

    before: int
    after: int
    matrices: tuple[np.ndarray, ...]
    shape: tuple[int, int]

    def signed(self, beats: np.ndarray) -> np.ndarray:
        """The real part for windows of shape (n, before + after): (n, rows, columns)."""
        return np.asarray((beats @ self.matrices[0]).reshape(-1, *self.shape))

    def magnitude(self, beats: np.ndarray) -> np.ndarray:
        """The modulus; of a real wavelet the absolute value."""
        real = self.signed(beats)
        if len(self.matrices) == 1:
            return np.asarray(np.abs(real))
        imaginary = (beats @ self.matrices[1]).reshape(-1, *self.shape)
        return np.asarray(np.hypot(real, imaginary))


@lru_cache(maxsize=4)
def wavelet_transform(spec: CompositeSpec | ScalogramSpec) -> Transform:
    """The transform at the spec's times (even) and scales (in equal ratios).

    Scales are given as standard deviations of a Mexican hat; another wavelet is stretched
    to the same centre frequency (sqrt(2) / (2 pi sigma), 45 Hz at 5 ms), so that a row
    shows the same frequencies whatever the wavelet. Scaled so that the wavelet's positive
    lobes have area one: the hat's value is about the height of a wave as wide as its lobe.

    References
    ----------
    Torrence C, Compo GP. A practical guide to wavelet analysis. Bull Am Meteorol Soc
    79(1):61-78 (1998): the wavelets and their centre frequencies.
    """
    rows, columns, fs = spec.panel_height, spec.width, spec.fs
    wavelet = WAVELETS[spec.wavelet]
    stretch = wavelet.peak / np.sqrt(2)
    scales = np.geomspace(spec.finest_ms, spec.coarsest_ms, rows) / 1000 * stretch
    times = np.linspace(-spec.before_ms, spec.after_ms, columns) / 1000
    reach = wavelet.support * scales[-1]
    before = int(np.ceil((spec.before_ms / 1000 + reach) * fs))
    after = int(np.ceil((spec.after_ms / 1000 + reach) * fs)) + 1
    at = np.arange(-before, after) / fs
    matrices = []
    for part in wavelet.parts:
        matrix = np.empty((len(at), rows, columns), np.float32)
        for k, scale in enumerate(scales):
            u = (at[:, None] - times) / scale
            wave = np.where(np.abs(u) < wavelet.support, part(u), 0.0)
            matrix[:, k] = wave / wavelet.positive / (scale * fs)
        matrices.append(matrix.reshape(len(at), -1))
    return Transform(before, after, tuple(matrices), (rows, columns))
