"""Fit a network on the training side; stop by patients that it has not seen.

Each epoch ends with a checkpoint, so a killed training goes on where it was, and gives
the same weights as one that was not: all chance is drawn from the seed and the epoch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, log_loss

from ecgbeats.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    tempered,
    with_temperature,
)
from ecgbeats.config import AnswerParams, ModelParams, TrainParams
from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.export import save_keras, save_network, save_onnx
from ecgbeats.files import (
    canonical_json,
    folder_written_aside,
    read_json,
    sha256_arrays,
    sha256_file,
    sha256_text,
    write_json,
    write_text,
    written_aside,
)
from ecgbeats.imaging.store import BeatImages
from ecgbeats.inference import CARD, HISTORY, KERAS, ONNX, Classifier
from ecgbeats.models import build_estimator, build_model, is_estimator, together
from ecgbeats.progress import say
from ecgbeats.split import TRAIN, VALIDATION

if TYPE_CHECKING:
    import keras

    from ecgbeats.models.estimators import Estimator

_STATE = "state.json"
_PREDICT_BATCH = 1024
# Records that a card names; groups of pictures are more.
_MOST_LISTED = 1000
# The served network may differ from the trained one by no more, in probability.
_ONNX_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Task:
    """What is to be learnt: images, their labels and sides, all in one order."""

    images: BeatImages
    labels: np.ndarray
    side: np.ndarray
    classes: tuple[str, ...]
    headline: tuple[str, ...]

    def index(self, *sides: str) -> np.ndarray:
        return np.flatnonzero(np.isin(self.side, sides) & (self.labels >= 0))


@dataclass
class _Progress:
    """What a checkpoint knows; `history` has one row an epoch over all phases."""

    fingerprint: str
    history: list[dict[str, Any]] = field(default_factory=list)
    # By phase: the file of its last epoch, and of its best one.
    last: dict[str, str] = field(default_factory=dict)
    best: dict[str, str] = field(default_factory=dict)

    def rows(self, phase: str) -> list[dict[str, Any]]:
        return [row for row in self.history if row["phase"] == phase]


def make_task(
    images: BeatImages, split: pd.DataFrame, classes: Sequence[str], headline: Sequence[str]
) -> Task:
    """Join images and split.

    Raises
    ------
    ContractError
        They are not of the same beats.
    """
    ours, theirs = images.beats[["record", "sample"]], split[["record", "sample"]]
    if not ours.equals(theirs):
        raise ContractError(
            f"{images.folder}: the split was made for other beats "
            f"({len(theirs)} beats, the images have {len(ours)})"
        )
    code = {name: i for i, name in enumerate(classes)}
    labels = split["label"].map(code).fillna(-1).to_numpy(np.int64)
    return Task(images, labels, split["side"].to_numpy(), tuple(classes), tuple(headline))


def train(
    task: Task,
    model_params: ModelParams,
    params: TrainParams,
    out: Path,
    *,
    checkpoints: Path,
    answer: AnswerParams | None = None,
) -> dict[str, Any]:
    """Train, export and describe a model in the folder `out`.

    Writes model.keras, model.onnx, model.json and history.csv, all or none; of a baseline of
    scikit-learn there is no model.keras.

    Parameters
    ----------
    checkpoints : Path
        Where unfinished training is kept between runs; removed when it is done.
    answer : AnswerParams, optional
        Goes into the card as it is, for whoever puts the answers into words.

    Returns
    -------
    dict
        The content of model.json.
    """
    if not len(task.index(TRAIN)) or not len(task.index(VALIDATION)):
        raise DataError("training: no labelled beat on the training or the validation side")
    answer = answer or AnswerParams()
    if is_estimator(model_params.name):
        card = _train_estimator(task, model_params, params, answer, out)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return card
    keras = _keras()
    keras.config.disable_traceback_filtering()
    engine = {"keras": [keras.__version__, keras.backend.backend()]}
    fingerprint = _fingerprint(task, model_params, params, engine)
    state = _resume(checkpoints, fingerprint)
    models = [
        _member(task, model_params, params, k, state, checkpoints) for k in range(params.members)
    ]
    calibration = _calibrate(task, params, state, checkpoints)
    card = _export(task, models, model_params, params, state, calibration, answer, out)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return card


def _phases(member: int) -> tuple[str, str]:
    """What the two phases of a member, from 0, are called."""
    return ("select", "refit") if not member else (f"select-{member + 1}", f"refit-{member + 1}")


def _member(
    task: Task,
    model_params: ModelParams,
    params: TrainParams,
    member: int,
    state: _Progress,
    checkpoints: Path,
) -> keras.Model:
    """Select and refit one network, as asked for; the first has the seed itself."""
    model_params = model_params.of_member(member)
    if member:
        seed = int(np.random.SeedSequence([params.seed, member]).generate_state(1)[0])
        params = params.model_copy(update={"seed": seed})
    select, refit = _phases(member)
    if not params.select:
        return _fit(task, model_params, params, refit, params.epochs, state, checkpoints)
    model = _fit(task, model_params, params, select, params.epochs, state, checkpoints)
    if params.refit:
        best = _best_row(state, member, params)["epoch"]
        say(f"train: {refit} on all training patients for {best} epochs")
        model = _fit(task, model_params, params, refit, best, state, checkpoints)
    return model


def _best_row(state: _Progress, member: int, params: TrainParams) -> dict[str, Any]:
    """The row of the epoch that a member was taken at, or refitted as long as."""
    select, refit = _phases(member)
    if not params.select:
        return {**state.rows(refit)[-1], "validation_macro_f1": None}
    best = _best(state.rows(select), params.min_epochs)
    assert best is not None
    return state.rows(select)[best]


def _fingerprint(
    task: Task, model_params: ModelParams, params: TrainParams, engine: dict[str, Any]
) -> str:
    """Hash of everything that decides what a training gives."""
    return sha256_text(
        canonical_json(
            {
                "images": task.images.digest(),
                "labels": sha256_arrays([task.labels]),
                "side": sha256_text(",".join(task.side)),
                "classes": task.classes,
                "headline": task.headline,
                "model": model_params.model_dump(mode="json"),
                "train": params.model_dump(mode="json"),
                **engine,
                "code": _code(),
            }
        )
    )


def _code() -> str:
    """Hash of the code that decides what a training gives; a checkpoint of other code is void."""
    here = Path(__file__).parent
    own = [here / f"{name}.py" for name in ("training", "feed", "augmentation", "contexts")]
    own += sorted((here / "models").glob("*.py"))
    return sha256_text("".join(sha256_file(path) for path in own))


def _fit(
    task: Task,
    model_params: ModelParams,
    params: TrainParams,
    phase: str,
    epochs: int,
    state: _Progress,
    checkpoints: Path,
) -> keras.Model:
    """Run one phase to its end, from wherever its checkpoint is; return its model."""
    keras = _keras()
    from ecgbeats.augmentation import Augmentation
    from ecgbeats.contexts import Contexts
    from ecgbeats.feed import Feed

    selects = phase.startswith("select")
    sides = (TRAIN,) if selects else (TRAIN, VALIDATION)
    index = task.index(*sides)
    weight = class_weights(task.labels[index], len(task.classes), params.class_balance)
    spec = task.images.spec
    known = np.where(np.isin(task.side, sides), task.labels, -1)
    feed = Feed(
        task.images,
        task.labels,
        index,
        weight,
        batch=params.batch,
        seed=params.seed,
        share=_epoch_share(task.classes, params),
        augmentation=Augmentation.of(params.augment, spec, task.classes),
        contexts=Contexts.of(params.augment, spec, task.images.beats, known, task.classes),
    )
    done = state.rows(phase)
    if done:
        model = keras.saving.load_model(checkpoints / state.last[phase])
    else:
        keras.utils.set_random_seed(params.seed)
        model = build_model(
            model_params.name, task.images.spec, task.classes, **model_params.options
        )
        model.compile(
            optimizer=keras.optimizers.AdamW(params.learning_rate, params.weight_decay),
            loss="sparse_categorical_crossentropy",
            weighted_metrics=["accuracy"],
        )
    began = time.monotonic()
    for epoch in range(len(done), epochs):
        if selects and _out_of_patience(state.rows(phase), params):
            break
        _reseed(model, params.seed, epoch)
        feed.start_epoch(epoch)
        # Over the same number of epochs in both phases: refit repeats what was selected.
        model.optimizer.learning_rate = _learning_rate(params.learning_rate, epoch, params.epochs)
        fitted = model.fit(feed, epochs=1, verbose=0, shuffle=False)
        row = {
            "phase": phase,
            "epoch": epoch + 1,
            "loss": round(float(fitted.history["loss"][0]), 6),
            "accuracy": round(float(fitted.history["accuracy"][0]), 6),
        }
        if selects:
            row |= _validate(task, model)
        state.history.append(row)
        _save(model, state, checkpoints, phase, epoch, params.min_epochs)
        left = (time.monotonic() - began) / (epoch + 1 - len(done)) * (epochs - epoch - 1)
        figures = ", ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
        still = f"at most {left:.0f} s left in this phase"
        say(f"train: {phase}, epoch {epoch + 1}/{epochs}: {figures}; {still}")
    if selects and not params.refit:
        model = keras.saving.load_model(checkpoints / state.best[phase])
    return model


def _epoch_share(classes: Sequence[str], params: TrainParams) -> np.ndarray:
    for name in params.epoch_share:
        if name not in classes:
            raise ConfigError(
                f"train.epoch_share: expected some of {', '.join(classes)}; got {name!r}"
            )
    return np.array([params.epoch_share.get(name, 1.0) for name in classes])


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Set the state of the model's random layers; checkpoints do not keep it."""
    states = [v for v in model.variables if "seed_generator_state" in v.path]
    for i, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, i]).generate_state(2))


def class_weights(labels: np.ndarray, classes: int, balance: float) -> np.ndarray:
    """Weight of each class, (1 / share) ** balance, scaled so that the mean beat weighs one."""
    share = np.bincount(labels, minlength=classes) / len(labels)
    weight = np.where(share > 0, np.maximum(share, 1e-12) ** -balance, 0.0)
    return np.asarray(weight / (weight * share).sum(), np.float32)


def _learning_rate(peak: float, epoch: int, epochs: int) -> float:
    """Half a cosine from the peak to a hundredth of it."""
    share = epoch / max(epochs - 1, 1)
    return float(peak * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * share))))


def _best(rows: list[dict[str, Any]], min_epochs: int) -> int | None:
    """Index of the best row; None before `min_epochs`, as early scores are chance."""
    scores = [row["validation_macro_f1"] for row in rows[min_epochs - 1 :]]
    return min_epochs - 1 + int(np.argmax(scores)) if scores else None


def _out_of_patience(rows: list[dict[str, Any]], params: TrainParams) -> bool:
    best = _best(rows, params.min_epochs)
    return best is not None and len(rows) - 1 - best >= params.patience


def _validate(task: Task, model: keras.Model) -> dict[str, float]:
    index = task.index(VALIDATION)
    return _scores(task, index, _predict(task, model, index))


def _scores(task: Task, index: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """What the probabilities of the beats `index`, of the validation side, are worth."""
    labels = task.labels[index]
    wanted = [task.classes.index(name) for name in task.headline]
    # A class that no validation patient has says nothing about the model.
    wanted = [k for k in wanted if (labels == k).any()]
    score = f1_score(
        labels, probabilities.argmax(axis=1), labels=wanted, average="macro", zero_division=0
    )
    loss = log_loss(labels, probabilities, labels=range(len(task.classes)))
    return {
        "validation_loss": round(float(loss), 6),
        "validation_macro_f1": round(float(score), 6),
    }


def _predict(task: Task, model: keras.Model, index: np.ndarray) -> np.ndarray:
    from ecgbeats.feed import as_input

    out = []
    for i in range(0, len(index), _PREDICT_BATCH):
        images = as_input(task.images.take(index[i : i + _PREDICT_BATCH]))
        out.append(np.asarray(model.predict_on_batch(images)))
    # In double precision, where a row's sum is one.
    probabilities = np.concatenate(out).astype(np.float64)
    return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))


def _resume(checkpoints: Path, fingerprint: str) -> _Progress:
    """The state of an unfinished training of just this task, else a new one."""
    path = checkpoints / _STATE
    if path.is_file():
        stored = read_json(path)
        if stored["fingerprint"] == fingerprint:
            say(f"train: going on after {len(stored['history'])} epochs")
            return _Progress(**stored)
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    return _Progress(fingerprint)


def _save(
    model: keras.Model,
    state: _Progress,
    checkpoints: Path,
    phase: str,
    epoch: int,
    min_epochs: int,
) -> None:
    """Write the model, then the state that names it, then drop what no state names."""
    name = f"{phase}-{epoch + 1:03d}.keras"
    with written_aside(checkpoints / name) as aside:
        model.save(aside)
    state.last[phase] = name
    rows = state.rows(phase)
    if phase.startswith("select") and _best(rows, min_epochs) == len(rows) - 1:
        state.best[phase] = name
    write_json(checkpoints / _STATE, vars(state))
    write_text(checkpoints / HISTORY, pd.DataFrame(state.history).to_csv(index=False))
    for path in checkpoints.glob("*.keras"):
        if path.name not in {*state.last.values(), *state.best.values()}:
            path.unlink()


def _calibrate(
    task: Task, params: TrainParams, state: _Progress, checkpoints: Path
) -> dict[str, Any] | None:
    """Temperature of the selected networks' mean, by patients whom they were not trained on.

    A refitted network has been trained on the validation patients too, so it takes over the
    temperature of the selected one, of which it is a repetition on more patients.
    """
    if params.calibrate == "none":
        return None
    index = task.index(VALIDATION)
    phases = [_phases(member)[0] for member in range(params.members)]
    load = _keras().saving.load_model
    answers = [_predict(task, load(checkpoints / state.best[phase]), index) for phase in phases]
    return _calibration(task.labels[index], np.mean(answers, axis=0))


def _calibration(labels: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """The temperature for probabilities `before` of beats with `labels`, and what it mends."""
    temperature = fit_temperature(before, labels)
    after = tempered(before, temperature)
    ece = [expected_calibration_error(reliability(labels, p)) for p in (before, after)]
    loss = [negative_log_likelihood(p, labels) for p in (before, after)]
    say(f"train: temperature {temperature}, validation ECE {ece[0]:.4f} to {ece[1]:.4f}")
    return {
        "method": "temperature",
        "temperature": temperature,
        "validation_ece_before": round(ece[0], 6),
        "validation_ece": round(ece[1], 6),
        "validation_log_loss_before": round(loss[0], 6),
        "validation_log_loss": round(loss[1], 6),
    }


def _export(
    task: Task,
    models: Sequence[keras.Model],
    model_params: ModelParams,
    params: TrainParams,
    state: _Progress,
    calibration: dict[str, Any] | None,
    answer: AnswerParams,
    out: Path,
) -> dict[str, Any]:
    keras = _keras()
    spec = task.images.spec
    # Of members the first stands for all in what one number is asked for.
    rows = [_best_row(state, member, params) for member in range(params.members)]
    with folder_written_aside(out) as aside:
        # Built anew, without optimizer: what is kept is the network, and the names that
        # Keras counts up with each model of a process are the same in each export.
        keras.backend.clear_session()
        apart = []
        for member, model in enumerate(models):
            kind = model_params.of_member(member)
            network = build_model(kind.name, spec, task.classes, **kind.options)
            network.set_weights(model.get_weights())
            _reseed(network, 0, 0)
            apart.append(network)
        kept = apart[0] if len(apart) == 1 else together(apart)
        if calibration is not None:
            kept = with_temperature(kept, calibration["temperature"])
        save_keras(kept, aside / KERAS)
        save_onnx(kept, aside / ONNX)
        card = {
            **_described(task, model_params, answer, aside),
            "parameters": kept.count_params(),
            "weights_sha256": sha256_arrays(kept.get_weights()),
            "training": {
                "fingerprint": state.fingerprint,
                "keras": keras.__version__,
                "backend": keras.backend.backend(),
                "best_epoch": rows[0]["epoch"],
                "validation_macro_f1": rows[0]["validation_macro_f1"],
                **({"members": _members(rows)} if len(rows) > 1 else {}),
                "epochs_run": len(state.history),
                "beats": {side: len(task.index(side)) for side in (TRAIN, VALIDATION)},
                "records": _learnt_from(task),
                "calibration": calibration,
            },
        }
        write_json(aside / CARD, card)
        write_text(aside / HISTORY, pd.DataFrame(state.history).to_csv(index=False))
        _check_onnx(task, kept, aside)
    return card


def _learnt_from(task: Task) -> list[str] | None:
    """Records that training or its choices saw, for whoever measures; None of very many."""
    index = task.index(TRAIN, VALIDATION)
    names = sorted(task.images.beats["record"].iloc[index].astype(str).unique())
    return names if len(names) <= _MOST_LISTED else None


def _members(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the card says of each member: its best row."""
    return [{key: row[key] for key in ("epoch", "validation_macro_f1")} for row in rows]


def _described(
    task: Task, model_params: ModelParams, answer: AnswerParams, folder: Path
) -> dict[str, Any]:
    """What the card of any model says, whatever made it; the ONNX file is in `folder`."""
    return {
        "schema": 1,
        "classes": list(task.classes),
        "spec_id": task.images.spec.spec_id,
        "image": task.images.spec.model_dump(mode="json"),
        "model": model_params.model_dump(mode="json"),
        "onnx_sha256": sha256_file(folder / ONNX),
        "answer": answer.model_dump(mode="json"),
    }


def _train_estimator(
    task: Task, model_params: ModelParams, params: TrainParams, answer: AnswerParams, out: Path
) -> dict[str, Any]:
    """The same for a baseline of scikit-learn: one fit instead of epochs, no checkpoints.

    Of `params` seed, class_balance, refit and calibrate count.
    """
    import sklearn

    for name, asked in (("augment", params.augment.any), ("epoch_share", params.epoch_share)):
        if asked:
            raise ConfigError(
                f"train.{name}: {model_params.name} is fitted once, to all images as they are"
            )
    fitted = _fit_estimator(task, model_params, params, TRAIN)
    validation = task.index(VALIDATION)
    answers = fitted.predict(task.images.take(validation))
    history = [{"phase": "select", **_fit_scores(task, fitted, TRAIN)}]
    history[0] |= _scores(task, validation, answers)
    figures = ", ".join(f"{k} {v:.4f}" for k, v in history[0].items() if isinstance(v, float))
    say(f"train: {model_params.name}: {figures}")
    if params.refit:
        say("train: refit on all training patients")
        fitted = _fit_estimator(task, model_params, params, TRAIN, VALIDATION)
        history.append({"phase": "refit", **_fit_scores(task, fitted, TRAIN, VALIDATION)})
    calibration = None
    if params.calibrate != "none":
        calibration = _calibration(task.labels[validation], answers)
        fitted.temperature = calibration["temperature"]
    with folder_written_aside(out) as aside:
        save_network(fitted.network(), aside / ONNX)
        card = {
            **_described(task, model_params, answer, aside),
            "parameters": fitted.parameters,
            "weights_sha256": sha256_arrays([*fitted.arrays(), np.array(fitted.temperature)]),
            "training": {
                "fingerprint": _fingerprint(
                    task, model_params, params, {"sklearn": sklearn.__version__}
                ),
                "sklearn": sklearn.__version__,
                "best_epoch": 1,
                "validation_macro_f1": history[0]["validation_macro_f1"],
                "epochs_run": len(history),
                "beats": {side: len(task.index(side)) for side in (TRAIN, VALIDATION)},
                "records": _learnt_from(task),
                "calibration": calibration,
            },
        }
        write_json(aside / CARD, card)
        write_text(aside / HISTORY, pd.DataFrame(history).to_csv(index=False))
        images = task.images.take(_sample(validation))
        _check_served(aside, images, fitted.predict(images), "scikit-learn")
    return card


def _fit_estimator(
    task: Task, model_params: ModelParams, params: TrainParams, *sides: str
) -> Estimator:
    index = task.index(*sides)
    labels = task.labels[index]
    weight = class_weights(labels, len(task.classes), params.class_balance)
    estimator = build_estimator(
        model_params.name,
        task.images.spec,
        len(task.classes),
        seed=params.seed,
        **model_params.options,
    )
    estimator.fit(task.images.take(index), labels, weight[labels])
    return estimator


def _fit_scores(task: Task, fitted: Estimator, *sides: str) -> dict[str, Any]:
    """Of the beats that it was fitted to, as an epoch of a network has them."""
    index = task.index(*sides)
    labels, answers = task.labels[index], fitted.predict(task.images.take(index))
    return {
        "epoch": 1,
        "loss": round(negative_log_likelihood(answers, labels), 6),
        "accuracy": round(float((answers.argmax(axis=1) == labels).mean()), 6),
    }


def _check_onnx(task: Task, model: keras.Model, folder: Path) -> None:
    """The network that will be served must answer as the trained one does."""
    from ecgbeats.feed import as_input

    images = task.images.take(_sample(task.index(VALIDATION)))
    trained = np.asarray(model.predict_on_batch(as_input(images)))
    _check_served(folder, images, trained, "Keras")


def _sample(index: np.ndarray) -> np.ndarray:
    return np.asarray(index[np.linspace(0, len(index) - 1, min(256, len(index))).astype(int)])


def _check_served(folder: Path, images: np.ndarray, trained: np.ndarray, by: str) -> None:
    served = Classifier.load(folder).predict(images)
    apart = float(np.abs(served - trained).max())
    if not apart <= _ONNX_TOLERANCE:
        raise ContractError(
            f"ONNX and {by} differ by {apart:.1e} in probability; "
            f"expected at most {_ONNX_TOLERANCE:.0e}"
        )


def _keras() -> Any:
    """Keras, quiet and deterministic; imported late, since it takes seconds."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    return keras
