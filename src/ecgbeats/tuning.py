"""A search for better parameters, by cross-validation over the training patients alone.

A trial is one choice of values, tried fold by fold; its score is the headline's macro-F1 over
the pooled predictions of all folds. Optuna's TPE (Bergstra et al., Algorithms for hyper-parameter
optimization, NeurIPS 2011) proposes values; a trial whose score, after the same folds, lies
under the median of those before is given up. What a protocol tests is in no fold.

The study is kept in a file, and each fold as an experiment in a folder named by its values: a
search that was killed goes on, and values that come up again cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from pydantic import ValidationError

from ecgbeats import metrics
from ecgbeats.config import Dimension, Recipe, TuneParams
from ecgbeats.crossval import Crossval, Part, run_part
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.experiment import Outcome, finished
from ecgbeats.files import canonical_json, folder_written_aside, sha256_text, write_text
from ecgbeats.folds import Folds
from ecgbeats.processes import Processes
from ecgbeats.progress import say

if TYPE_CHECKING:
    import optuna

TRIALS, REPORT, BEST = "trials.csv", "index.html", "best.yaml"
_VALUES = "values"
_RETRIED = "retry of"


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes
    ----------
    images : Path
        Folder of images; `folds` parts the same beats.
    folds : Folds
        Over the training side.
    folder : Path
        Keeps the study and the trials.
    digest : str
        Of the images.
    """

    name: str
    recipe: Recipe
    images: Path
    folds: Folds
    classes: tuple[str, ...]
    folder: Path
    digest: str

    @property
    def params(self) -> TuneParams:
        """The recipe's section `tune`.

        Raises
        ------
        ConfigError
            It has none.
        """
        if self.recipe.tune is None:
            raise ConfigError(f"recipes.{self.name}: expected a section tune with a space; none")
        return self.recipe.tune

    @property
    def database(self) -> Path:
        """Optuna's file."""
        return self.folder / "study.db"

    def crossval(self, values: Mapping[str, Any]) -> Crossval:
        """The cross-validation of `values`, in a folder named by what it tries.

        Raises
        ------
        ConfigError
            No recipe can have these values together.
        """
        try:
            recipe = self.recipe.with_values(values)
        except (ValueError, ValidationError) as error:
            raise ConfigError(f"recipes.{self.name}.tune: {dict(values)}: {error}") from error
        key = sha256_text(canonical_json(recipe.model_dump(mode="json", include=_TRIED)))[:16]
        return Crossval(
            images=self.images,
            folds=self.folds,
            classes=self.classes,
            headline=recipe.evaluate.headline,
            model=recipe.model,
            train=recipe.train,
            seeds=(recipe.train.seed,),
            folder=self.folder / "trials" / key,
        )

    def identity(self) -> str:
        """Hash of all that makes scores comparable, and of the space; not how many trials."""
        return sha256_text(
            canonical_json(
                {
                    "base": self.crossval({}).identity(self.digest),
                    "tune": self.params.model_dump(mode="json", exclude={"trials", "prune_after"}),
                }
            )
        )


_TRIED = {"model", "train"}


@dataclass
class Trial:
    """One choice of values and how far it came.

    Attributes
    ----------
    scores : list of float or None
        Macro-F1 pooled over the first fold, the first two, ...; None undefined.
    state : str
        "complete", "pruned" or "running".
    """

    number: int
    values: dict[str, Any]
    crossval: Crossval
    scores: list[float | None] = field(default_factory=list)
    seconds: float = 0.0
    state: str = "running"

    @property
    def key(self) -> str:
        """What was tried: the same for the same values."""
        return self.crossval.folder.name

    @property
    def score(self) -> float | None:
        return self.scores[-1] if self.scores else None


def search(what: Search, *, jobs: int) -> Iterator[Trial]:
    """Go on with a search until it has its number of trials; yield each trial as it ends.

    Folds of a trial are run one after the other, `jobs` trials at a time, each fold in a
    process of its own. With one job the same seed gives the same trials, interrupted or not.

    Raises
    ------
    ConfigError
        The recipe has no search space, or values that no recipe can have came up.
    DataError
        A class of the headline is in no fold.
    """
    params = what.params
    _check(what)
    study = open_study(what)
    _retry_interrupted(study)
    active: dict[int, tuple[optuna.Trial, Trial]] = {}
    # The same values again: they wait for the trial that is at work in the same folder.
    held: list[Trial] = []
    with Processes[int](max(1, jobs)) as processes:
        while True:
            while processes.free and _ended(study) + len(active) < params.trials:
                asked = _ask(study, params)
                values = suggest(asked, params.space)
                asked.set_user_attr(_VALUES, values)
                trial = Trial(asked.number, values, what.crossval(values))
                say(f"tune: trial {trial.number}: {_in_words(values)}")
                if any(other.values == values for _, other in active.values()):
                    held.append(trial)
                else:
                    _start(processes, trial)
                active[trial.number] = asked, trial
            if not active:
                return
            number, _ = processes.next()
            asked, trial = active[number]
            if _fold_ended(study, asked, trial, params):
                del active[number]
                again = next((one for one in held if one.values == trial.values), None)
                if again is not None:
                    held.remove(again)
                    _start(processes, again)
                yield trial
            else:
                _start(processes, trial)


def _start(processes: Processes[int], trial: Trial) -> None:
    """Run the next fold of `trial`."""
    part = _parts(trial)[len(trial.scores)]
    name = f"trial-{trial.number}/fold-{part.fold}"
    processes.start(trial.number, name, _run, (trial.crossval, part))


def _run(item: tuple[Crossval, Part]) -> None:
    run_part(*item)


def _parts(trial: Trial) -> list[Part]:
    return trial.crossval.parts()


def _fold_ended(study: optuna.Study, asked: optuna.Trial, trial: Trial, params: TuneParams) -> bool:
    """Take the next fold into account; whether it was the last of its trial."""
    from optuna.trial import TrialState

    done = _outcomes(trial, len(trial.scores) + 1)
    trial.scores.append(pooled_score(done, trial.crossval.headline))
    trial.seconds = sum(outcome.train_seconds for outcome in done)
    asked.set_user_attr("seconds", round(trial.seconds, 1))
    step, score = len(trial.scores), trial.score
    say(
        f"tune: trial {trial.number}, fold {step}/{len(_parts(trial))}: macro-F1 so far "
        + ("undefined" if score is None else f"{score:.4f}")
    )
    if step == len(_parts(trial)):
        if score is None:
            raise DataError(
                f"tune: expected beats of {' '.join(trial.crossval.headline)} in the folds; "
                "the macro-F1 over them is undefined"
            )
        study.tell(asked, score)
        trial.state = "complete"
        return True
    if score is not None:
        asked.report(score, step)
        if step >= params.prune_after and asked.should_prune():
            study.tell(asked, state=TrialState.PRUNED)
            trial.state = "pruned"
            return True
    return False


def _outcomes(trial: Trial, folds: int) -> list[Outcome]:
    found = [finished(trial.crossval.folder / part.name) for part in _parts(trial)[:folds]]
    outcomes = [outcome for outcome in found if outcome is not None]
    assert len(outcomes) == folds
    return outcomes


def pooled_score(outcomes: Sequence[Outcome], headline: Sequence[str]) -> float | None:
    """Macro-F1 over the classes `headline` of all predictions together; None undefined."""
    classes = outcomes[0].classes
    table = pd.concat([outcome.predictions for outcome in outcomes], ignore_index=True)
    confusion = metrics.confusion_matrix(
        table["label"], metrics.predicted_classes(table, classes), len(classes)
    )
    chosen = [classes.index(name) for name in headline]
    return metrics.or_none(metrics.macro_f1(metrics.class_scores(confusion).f1, chosen))


def _check(what: Search) -> None:
    """Nothing may be chosen by what the protocol tests."""
    if what.folds.over != "training":
        raise ConfigError(f"tune: expected folds over the training side, got {what.folds.over}")
    tested = what.folds.sides(0)
    labels = set(tested.loc[what.folds.tested_in() >= 0, "label"])
    missing = [name for name in what.recipe.evaluate.headline if name not in labels]
    if missing:
        raise DataError(f"tune: no beat of class {' '.join(missing)} on the training side")


def open_study(what: Search) -> optuna.Study:
    """The study of `what` in its file; a new one where none is of just this search."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    what.database.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=f"sqlite:///{what.database.absolute()}",
        study_name=f"{what.name}-{what.identity()[:16]}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=what.params.startup),
        load_if_exists=True,
    )


def _ended(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _retry_interrupted(study: optuna.Study) -> None:
    """Trials of a process that was killed: mark them failed, and have their values tried first."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            say(f"tune: trial {trial.number} was interrupted, tried again")
            study.enqueue_trial(trial.params, user_attrs={_RETRIED: trial.number})


def _ask(study: optuna.Study, params: TuneParams) -> optuna.Trial:
    """A new trial. Its chance hangs on its place in the search alone, not on interruptions."""
    import optuna
    from optuna.trial import TrialState

    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    place = len(study.get_trials(deepcopy=False, states=counted))
    seed = int(np.random.SeedSequence([params.seed, place]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=params.startup)
    return study.ask()


def suggest(trial: optuna.Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Values for one trial, by dotted path."""
    values: dict[str, Any] = {}
    for path, dimension in space.items():
        if dimension.log is not None:
            values[path] = _rounded(trial.suggest_float(path, *dimension.log, log=True))
        elif dimension.linear is not None:
            values[path] = _rounded(trial.suggest_float(path, *dimension.linear))
        elif dimension.whole is not None:
            values[path] = trial.suggest_int(path, *dimension.whole)
        else:
            # As text: Optuna keeps no lists.
            choices = [json.dumps(choice) for choice in dimension.choice or ()]
            values[path] = json.loads(trial.suggest_categorical(path, choices))
    return values


def _rounded(value: float) -> float:
    """Four digits: a value that can be copied is the value that was tried."""
    return float(f"{value:.4g}")


def ended_trials(what: Search, study: optuna.Study) -> list[Trial]:
    """The trials of all runs that ended, in order."""
    from optuna.trial import TrialState

    trials = []
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    for kept in study.get_trials(deepcopy=False, states=ended):
        complete = kept.state == TrialState.COMPLETE
        last = max(kept.intermediate_values, default=0)
        scores = [kept.intermediate_values.get(step) for step in range(1, last + 1)]
        if complete:
            scores += [None] * (len(what.folds) - 1 - len(scores)) + [kept.value]
        values = kept.user_attrs[_VALUES]
        trials.append(
            Trial(
                number=kept.number,
                values=values,
                crossval=what.crossval(values),
                scores=scores,
                seconds=float(kept.user_attrs["seconds"]),
                state="complete" if complete else "pruned",
            )
        )
    return trials


def trial_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row a trial: number, state, macro_f1 of the folds so far, folds, minutes, its values."""
    return pd.DataFrame(
        [
            {
                "number": trial.number,
                "state": trial.state,
                "macro_f1": trial.score,
                "folds": len(trial.scores),
                "minutes": round(trial.seconds / 60, 2),
                **{
                    path: json.dumps(value) if isinstance(value, list | dict) else value
                    for path, value in trial.values.items()
                },
            }
            for trial in trials
        ]
    )


def best_yaml(what: Search, study: optuna.Study) -> str:
    """The values of the best trial as a piece of params.yaml, to be pasted into the recipe."""
    nested: dict[str, Any] = {}
    for path, value in study.best_trial.user_attrs[_VALUES].items():
        inner = nested
        *parents, last = path.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return str(yaml.safe_dump({what.name: nested}, sort_keys=False))


def write_search(out: Path, what: Search, study: optuna.Study, *, synthetic: bool) -> None:
    """Write trials.csv, best.yaml and index.html to the folder `out`, whole or not at all."""
    from ecgbeats.study_page import Card, Table, figure, render_study

    table, best = trial_table(ended_trials(what, study)), study.best_trial
    code = best_yaml(what, study)
    paths = list(what.params.space)
    order = table.sort_values(["state", "macro_f1"], ascending=[True, False])
    page = render_study(
        f"{what.name}: search",
        f"{len(table)} trials, {len(what.folds)} folds over the training side, by "
        f"{what.folds.by}; scored by macro-F1 over {', '.join(what.recipe.evaluate.headline)} of "
        "all folds pooled. The best of many trials is flattered by its own choice: what it is "
        "worth is told by data that nothing was chosen by.",
        [
            Card("Best macro-F1", figure(best.value), f"trial {best.number}"),
            Card("Complete", str(int((table["state"] == "complete").sum()))),
            Card("Given up", str(int((table["state"] == "pruned").sum()))),
            Card("Minutes of training", f"{table['minutes'].sum():.1f}"),
        ],
        [
            Table(
                "Trials",
                ("Trial", "State", "Macro-F1", "Minutes", *paths),
                [
                    (
                        str(row["number"]),
                        str(row["state"]),
                        figure(None if pd.isna(row["macro_f1"]) else row["macro_f1"]),
                        f"{row['minutes']:.1f}",
                        *(f"{row[path]}" for path in paths),
                    )
                    for row in order.to_dict("records")
                ],
                "Best first. A trial that was given up has the score of its folds so far.",
            )
        ],
        synthetic=synthetic,
        code=Card("The best values, for params.yaml", code),
    )
    with folder_written_aside(Path(out)) as aside:
        write_text(aside / TRIALS, table.to_csv(index=False))
        write_text(aside / BEST, code)
        write_text(aside / REPORT, page)


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} {value}" for path, value in values.items())
