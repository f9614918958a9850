"""A dynamical model of the ECG, evaluated in closed form.

The model is McSharry et al. 2003 (ECGSYN) with the beat-dependent waves of Clifford et al.
2010. A phase runs round a limit cycle once per beat; each wave (P, Q, R, S, T, ...) is an event
on it, and the potential z obeys

    dz/dt = d/dt sum_i a_i exp(-(t - t_i)^2 / (2 b_i^2)) - (z - z0)        [1/s]

with the baseline z0(t) that breathing moves. ECGSYN widens and shifts the waves with the mean
heart rate, so that intervals stay physiological; here that is done for each beat, which is the
same as giving the positions t_i and widths b_i in seconds from the beat. The right-hand side is
linear in z, so no differential equation has to be stepped: the waves are summed and one
first-order filter does the rest.

McSharry PE, Clifford GD, Tarassenko L, Smith LA. A dynamical model for generating synthetic
electrocardiogram signals. IEEE Trans Biomed Eng 50(3):289-294, 2003.
Clifford GD, Nemati S, Sameni R. An artificial vector model for generating abnormal
electrocardiographic rhythms. Physiol Meas 31(5):595-609, 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len
from scipy.signal import lfilter

CITATION = (
    "McSharry PE, Clifford GD, Tarassenko L, Smith LA. A dynamical model for generating synthetic "
    "electrocardiogram signals. IEEE Trans Biomed Eng 50(3):289-294, 2003; Clifford GD, Nemati S, "
    "Sameni R. An artificial vector model for generating abnormal electrocardiographic rhythms. "
    "Physiol Meas 31(5):595-609, 2010."
)

# Relaxation rate of z towards z0 in the model, 1/s.
RELAXATION = 1.0
# A Gaussian wave is below 1e-5 of its height beyond this many widths.
_REACH = 4.8
# Waves that are summed at a time, so that temporary arrays stay small.
_CHUNK = 2048


@dataclass(frozen=True)
class Waves:
    """Gaussian waves of one lead.

    Attributes
    ----------
    time, width : ndarray of float64, shape (n,)
        Centre and standard deviation in seconds.
    height : ndarray of float64, shape (n,)
        In millivolts.
    """

    time: np.ndarray
    width: np.ndarray
    height: np.ndarray


def sum_waves(waves: Waves, samples: int, fs: float) -> np.ndarray:
    """Potential of all waves together.

    Parameters
    ----------
    waves : Waves
    samples : int
        Length of the result; parts of waves outside it are left out.
    fs : float
        Sampling frequency in Hz.

    Returns
    -------
    ndarray of float64, shape (samples,)
        In millivolts.
    """
    potential = np.zeros(samples)
    # Waves of about the same width share one window length.
    order = np.argsort(waves.width, kind="stable")
    for start in range(0, len(order), _CHUNK):
        chosen = order[start : start + _CHUNK]
        time, width, height = waves.time[chosen], waves.width[chosen], waves.height[chosen]
        reach = int(np.ceil(_REACH * width[-1] * fs))
        index = np.round(time * fs).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
        distance = (index / fs - time[:, None]) / width[:, None]
        value = height[:, None] * np.exp(-0.5 * distance**2)
        inside = (index >= 0) & (index < samples)
        np.add.at(potential, index[inside], value[inside])
    return potential


def relax(potential: np.ndarray, baseline: np.ndarray, fs: float) -> np.ndarray:
    """Solve dz/dt = d(potential)/dt - (z - baseline), starting in the stationary state.

    The decay is exact; between two samples the drive is taken as their mean.

    Parameters
    ----------
    potential, baseline : ndarray of float64, shape (samples,)
        In millivolts.
    fs : float
        Sampling frequency in Hz.

    Returns
    -------
    ndarray of float64, shape (samples,)
        z in millivolts.
    """
    # With u = potential - z the equation is a plain low pass: du/dt = (potential - baseline) - u.
    drive = potential - baseline
    decay = np.exp(-RELAXATION / fs)
    weight = (1 - decay) / 2
    mean = drive.mean()
    state = np.array([mean - weight * drive[0]])
    low, _ = lfilter([weight, weight], [1.0, -decay], drive, zi=state)
    return np.asarray(potential - low)


def rr_process(
    rng: np.random.Generator,
    seconds: float,
    *,
    mean: float,
    deviation: float,
    lf_hf: float,
    respiration: float,
    rate: float = 4.0,
) -> tuple[np.ndarray, np.ndarray]:
    """RR intervals over time, with a Mayer wave and respiratory sinus arrhythmia.

    The power spectrum is the sum of two Gaussians, at 0.1 Hz (LF) and at the rate of breathing
    (HF), each 0.01 Hz wide; phases are random (McSharry et al. 2003, section II-B).

    Parameters
    ----------
    rng : Generator
    seconds : float
        Time to cover.
    mean, deviation : float
        Of the RR interval, in seconds.
    lf_hf : float
        Ratio of LF to HF power.
    respiration : float
        Breaths per second.
    rate : float
        Samples per second of the result.

    Returns
    -------
    rr : ndarray of float64, shape (n,)
        RR interval in seconds, n >= seconds * rate.
    breath : ndarray of float64, shape (n,)
        The respiratory part alone, with unit variance: what also moves the baseline.
    """
    n = next_fast_len(int(np.ceil(seconds * rate)) + 1, real=True)
    # At least eight spectral lines within a Gaussian, also for a short recording.
    n = max(n, int(8 * rate / 0.02))
    n += n % 2
    frequency = np.arange(n // 2 + 1) * rate / n

    def band(centre: float) -> np.ndarray:
        amplitude = np.exp(-0.25 * ((frequency - centre) / 0.01) ** 2)
        phase = rng.uniform(0, 2 * np.pi, len(frequency))
        signal = irfft(amplitude * np.exp(1j * phase), n)
        return np.asarray(signal / signal.std())

    slow, breath = band(0.1), band(respiration)
    share = lf_hf / (1 + lf_hf)
    rr = mean + deviation * (np.sqrt(share) * slow + np.sqrt(1 - share) * breath)
    return rr, breath
