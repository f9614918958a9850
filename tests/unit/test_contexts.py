import numpy as np
import pandas as pd
import pytest

from ecgbeats.beats import PERCENTILES, RELATIVE_TO, RHYTHMS, rhythm
from ecgbeats.config import AugmentParams, RhythmContexts
from ecgbeats.contexts import Contexts
from ecgbeats.errors import ConfigError
from ecgbeats.imaging.plane import rhythm_levels, rhythm_strip
from ecgbeats.imaging.spec import CompositeSpec

pytestmark = pytest.mark.unit

FS = 360.0
CLASSES = ("N", "S", "V")
SPEC = CompositeSpec(
    representation="composite", panel_height=8, width=36, strip_height=4, rhythm="quantiles"
)
VALUES = RHYTHMS["quantiles"]
BLOCK = SPEC.width // len(VALUES)


def recording(seconds: np.ndarray, name: str = "a") -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Table of beats, strips of their images and rhythm values, from RR intervals."""
    samples = np.rint(np.cumsum(seconds) * FS).astype(int)
    values = rhythm(samples, FS, "quantiles")
    images = np.full((len(samples), *SPEC.shape), 128, np.uint8)
    images[:, -SPEC.strip_height :] = rhythm_strip(values, SPEC.strip_height, SPEC.width)
    return pd.DataFrame({"record": name, "time_s": samples / FS}), images, values


def levels(images: np.ndarray) -> np.ndarray:
    """Grey level of each block, (n, values)."""
    return images[:, -1, : BLOCK * len(VALUES)].reshape(len(images), -1, BLOCK)[:, :, 1]


def moved(
    beats: pd.DataFrame, images: np.ndarray, labels: np.ndarray, **params: object
) -> np.ndarray:
    contexts = Contexts(RhythmContexts(probability=1, **params), SPEC, beats, labels, CLASSES)  # type: ignore[arg-type]
    return contexts(images, np.arange(len(images)), np.random.default_rng(1))


def expected(values: np.ndarray, whole: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Levels of `values` when intervals are compared with the quantiles of `other`."""
    out = values.copy()
    own, others = (np.log(np.percentile(rr, PERCENTILES)) for rr in (whole, other))
    for q, percentile in enumerate(PERCENTILES):
        out[:, list(RELATIVE_TO[percentile])] += own[q] - others[q]
    return rhythm_levels(out)


def test_a_cut_is_compared_with_its_own_intervals_alone() -> None:
    # Four minutes at 75 beats a minute, then three at 100.
    seconds = np.concatenate([np.full(300, 0.8), np.full(300, 0.6)])
    beats, images, values = recording(seconds)
    out = moved(beats, images, np.zeros(600, int), cut_minutes=[4])
    slow, fast = values[:299], values[301:]
    assert np.abs(levels(out)[:299] - expected(slow, seconds, seconds[:300]).astype(int)).max() <= 1
    assert np.abs(levels(out)[301:] - expected(fast, seconds, seconds[301:]).astype(int)).max() <= 1
    pre = [VALUES.index(f"pre_rr_{q}") for q in PERCENTILES]
    # At its own rate each part is even: middle grey, which it was not within the whole.
    assert np.abs(levels(out)[310:, pre].astype(int) - 128).max() <= 1
    assert np.abs(levels(images)[310:, pre[2]].astype(int) - 128).min() > 30
    # What is compared with neighbours stays, and so do the panels.
    still = [i for i in range(len(VALUES)) if i not in sum(RELATIVE_TO.values(), ())]
    assert (levels(out)[:, still] == levels(images)[:, still]).all()
    assert (out[:, : -SPEC.strip_height] == 128).all()


def early_beats(count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """RR and labels: an early beat and its pause in every ten."""
    seconds = np.tile([0.8] * 8 + [0.5, 1.1], count)
    labels = np.tile([0] * 8 + [1, 0], count)
    return seconds, labels


def test_among_many_ectopic_beats_an_early_one_is_as_long_as_usual() -> None:
    seconds, labels = early_beats()
    beats, images, _ = recording(seconds)
    out = moved(beats, images, labels, ectopic="S", shares=[0.8])
    usual = VALUES.index("pre_rr_60")
    ectopic = labels == 1
    assert np.abs(levels(out)[ectopic, usual].astype(int) - 128).max() <= 2
    assert levels(images)[ectopic, usual].max() < 70
    # A sinus beat of the same recording is late by then.
    assert levels(out)[~ectopic, usual].min() > 190
    # The longest interval stays that of a pause.
    high = VALUES.index("pre_rr_90")
    assert levels(out)[ectopic, high].max() < levels(images)[ectopic, high].max()


def test_what_is_not_ectopic_enough_or_already_is_stays_in_its_context() -> None:
    seconds, labels = early_beats()
    beats, images, _ = recording(seconds)
    few = np.where(np.cumsum(labels) <= 9, labels, 0)
    assert (moved(beats, images, few, ectopic="S", shares=[0.5]) == images).all()
    assert (moved(beats, images, labels, ectopic="S", shares=[0.05]) == images).all()
    # A part of a recording that is too short to have a rhythm is compared with the whole.
    assert (moved(beats, images, labels, cut_minutes=[0.3]) == images).all()


def test_recordings_do_not_mix_and_chance_is_the_generator_s() -> None:
    seconds, labels = early_beats()
    beats, images, _ = recording(seconds)
    other, others, _ = recording(np.full(200, 0.4), "b")
    both = pd.concat([beats, other], ignore_index=True)
    known = np.concatenate([labels, np.full(200, -1)])
    asked = AugmentParams(
        rhythm_contexts=RhythmContexts(
            probability=0.5, cut_minutes=(2,), ectopic="S", shares=(0.6,)
        )
    )
    contexts = Contexts.of(asked, SPEC, both, known, CLASSES)
    assert contexts is not None
    index = np.array([400, 8, 18, 28, 38, 48, 58, 68])
    shown = np.concatenate([images, others])[index]
    before = shown.copy()
    first, again, third = (
        contexts(shown, index, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all() and (first != third).any()
    assert (shown == before).all()
    assert (first[0] == shown[0]).all()
    changed = (first != shown).any(axis=(1, 2))
    assert changed.any() and not changed.all()
    assert Contexts.of(AugmentParams(), SPEC, both, known, CLASSES) is None


@pytest.mark.parametrize(
    ("spec", "params", "words"),
    [
        (SPEC.model_copy(update={"rhythm": "mean"}), {"cut_minutes": (2,)}, "strip of quantiles"),
        (SPEC.model_copy(update={"strip_height": 0}), {"cut_minutes": (2,)}, "strip of quantiles"),
        (SPEC, {"ectopic": "X", "shares": (0.5,)}, "expected one of N, S, V; got 'X'"),
    ],
)
def test_contexts_without_meaning_are_refused(
    spec: CompositeSpec, params: dict[str, object], words: str
) -> None:
    beats, _, _ = recording(np.full(50, 0.8))
    with pytest.raises(ConfigError, match=words):
        Contexts(RhythmContexts(**params), spec, beats, np.zeros(50, int), CLASSES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "params", [{}, {"ectopic": "S"}, {"shares": (0.5,)}, {"cut_minutes": (0,)}]
)
def test_contexts_that_say_nothing_are_no_parameters(params: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cut_minutes|give both|greater than 0"):
        RhythmContexts(**params)  # type: ignore[arg-type]
