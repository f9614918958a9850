"""Networks by name. Importing this package imports no Keras; building one does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.spec import FeaturesSpec, Spec

if TYPE_CHECKING:
    import keras

    from ecgbeats.models.estimators import Estimator


Builder = Callable[..., "keras.Model"]


def _compact(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.compact import build

    return build(spec, classes, **options)


def _gradient_boosting(spec: Spec, classes: int, *, seed: int, **options: Any) -> Estimator:
    from ecgbeats.models.estimators import GradientBoosting

    return GradientBoosting(spec, classes, seed=seed, **options)


def _svm(spec: Spec, classes: int, *, seed: int, **options: Any) -> Estimator:
    from ecgbeats.models.estimators import SupportVectorMachine

    return SupportVectorMachine(spec, classes, seed=seed, **options)


def _jun2018(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.jun2018 import build

    return build(spec, classes, **options)


def _student(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.student import build

    return build(spec, classes, **options)


def _student_double(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.student import build_double

    return build_double(spec, classes, **options)


def _cnn_lstm(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.cnn_lstm import build

    return build(spec, classes, **options)


def _vgg16(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.transfer import build

    return build(spec, classes, application="vgg16", **options)


def _resnet50(spec: Spec, classes: int, **options: Any) -> keras.Model:
    from ecgbeats.models.transfer import build

    return build(spec, classes, application="resnet50", **options)


BUILDERS: dict[str, Builder] = {
    "compact": _compact,
    "jun2018": _jun2018,
    "student": _student,
    "student-double": _student_double,
    "cnn-lstm": _cnn_lstm,
    "vgg16": _vgg16,
    "resnet50": _resnet50,
}

# Options of networks that are lists of classes.
CLASS_OPTIONS = ("told_by_rhythm",)

# Baselines of scikit-learn, which are fitted at once, without epochs.
ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "gradient-boosting": _gradient_boosting,
    "svm": _svm,
}


def build_model(name: str, spec: Spec, classes: int | Sequence[str], **options: Any) -> keras.Model:
    """The untrained network `name` for images of `spec`.

    Input: float32 (n, rows, columns, 1), pixel values 0 to 255. Output: float32
    (n, classes), probabilities.

    Parameters
    ----------
    classes : int or sequence of str
        Their number or their names, in order. Options that speak of classes name them.

    Raises
    ------
    ConfigError
        No such network, or it has no such option, or an option names another class.
    """
    names = [str(k) for k in range(classes)] if isinstance(classes, int) else list(classes)
    if name not in BUILDERS:
        raise ConfigError(
            f"model.name: expected one of {', '.join([*BUILDERS, *ESTIMATORS])}; got {name!r}"
        )
    if isinstance(spec, FeaturesSpec):
        raise ConfigError(
            f"model.name: {name} reads images; features are for {' and '.join(ESTIMATORS)}"
        )
    try:
        return BUILDERS[name](spec, len(names), **_positions(options, names))
    except TypeError as error:
        raise ConfigError(f"model.options of {name}: {error}") from error


def together(members: Sequence[keras.Model]) -> keras.Model:
    """One network that answers the mean of what `members` answer."""
    from ecgbeats.models.parts import together as joined

    return joined(members)


def _positions(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """`options`, where classes are named by position."""
    found = dict(options)
    for option in CLASS_OPTIONS:
        if found.get(option) is not None:
            unknown = [label for label in found[option] if str(label) not in names]
            if unknown:
                raise ConfigError(
                    f"model.options.{option}: expected classes among {', '.join(names)}; "
                    f"got {', '.join(map(str, unknown))}"
                )
            found[option] = [names.index(str(label)) for label in found[option]]
    return found


def is_estimator(name: str) -> bool:
    """Whether `name` is a baseline of scikit-learn, not a network."""
    return name in ESTIMATORS


def build_estimator(name: str, spec: Spec, classes: int, *, seed: int, **options: Any) -> Estimator:
    """The baseline `name` for images of `spec`, not yet fitted.

    Raises
    ------
    ConfigError
        It has no such option.
    """
    try:
        return ESTIMATORS[name](spec, classes, seed=seed, **options)
    except TypeError as error:
        raise ConfigError(f"model.options of {name}: {error}") from error
