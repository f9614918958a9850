"""params.yaml as typed, frozen values: an unknown or impossible parameter is an error here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.spec import ImageSpec
from ecgbeats.labels import LabelScheme

Value = TypeVar("Value")

# Recipes and datasets name folders, registered models, bentos and Prefect artifacts.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PhysioNetSource(Section):
    """A database in PhysioNet's layout, e.g. mitdb/1.0.0."""

    source: Literal["physionet"]
    database: str
    annotator: str = "atr"
    licence: str
    citation: str
    # Record to patient, for those records that share a patient.
    patients: Mapping[str, str] = {}


class SampleSource(Section):
    """Synthetic recordings, made on the spot."""

    source: Literal["sample"]
    patients: int = Field(ge=4, le=2000)
    minutes: float = Field(gt=0.5, le=1440)
    fs: float = Field(ge=100, le=1000)
    seed: int


Dataset = Annotated[PhysioNetSource | SampleSource, Field(discriminator="source")]


class PatientSplit(Section):
    """Whole patients to one side.

    Either the test records are named (a published split), or a share of the patients
    is drawn, balanced over classes.
    """

    by: Literal["patient"]
    train_records: tuple[str, ...] = ()
    test_records: tuple[str, ...] = ()
    test_share: float | None = Field(default=None, gt=0, lt=1)
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _named_or_drawn(self) -> PatientSplit:
        if bool(self.test_records) == (self.test_share is not None):
            raise ValueError("give either test_records (and train_records) or test_share")
        both = set(self.train_records) & set(self.test_records)
        if both:
            raise ValueError(f"records on both sides: {sorted(both)}")
        return self


class BeatSplit(Section):
    """Stratified folds over beats: measures recognition of known patients, no more."""

    by: Literal["beat"]
    folds: int = Field(default=10, ge=2)
    fold: int = Field(default=0, ge=0)
    validation_share: float = Field(default=0.05, gt=0, lt=1)
    seed: int = 0


class Check(Section):
    """One bound on one metric, named by its dotted path in metrics.json."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Check:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.metric}: give either at_least or at_most")
        return self


class Protocol(Section):
    """Label scheme, which records, how they are split, and what a model must reach."""

    labels: LabelScheme
    exclude_records: tuple[str, ...] = ()
    # A published split that parts one person's records must say so here, by name.
    patients_on_both_sides: tuple[str, ...] = ()
    split: Annotated[PatientSplit | BeatSplit, Field(discriminator="by")]
    gate: tuple[Check, ...] = Field(min_length=1)


class ModelParams(Section):
    name: str
    options: Mapping[str, Any] = {}


class TrainParams(Section):
    """How the network is fitted; one seed settles all chance."""

    seed: int = 0
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    # Weight of a class is (1 / its share) ** class_balance: 0 none, 1 full.
    class_balance: float = Field(default=0.0, ge=0, le=1)
    # No earlier epoch counts as the best: at a high learning rate a good score is chance.
    min_epochs: int = Field(default=1, ge=1)
    # Epochs without a better score on the validation side before training stops.
    patience: int = Field(ge=1)
    # After stopping, train anew on all training patients for the best number of epochs.
    refit: bool = False

    @model_validator(mode="after")
    def _some_epoch_counts(self) -> TrainParams:
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs {self.min_epochs} is more than epochs {self.epochs}")
        return self


class EvaluateParams(Section):
    # Classes whose mean F1 is the headline.
    headline: tuple[str, ...] = Field(min_length=1)
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0


class Recipe(Section):
    """One way from recordings to a model."""

    dataset: str
    protocol: str
    image: ImageSpec
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams


class Params(Section):
    """The whole of params.yaml."""

    datasets: Mapping[Name, Dataset]
    protocols: Mapping[Name, Protocol]
    recipes: Mapping[Name, Recipe]

    @model_validator(mode="after")
    def _names_resolve(self) -> Params:
        for name, recipe in self.recipes.items():
            _known(f"recipes.{name}.dataset", recipe.dataset, self.datasets)
            _known(f"recipes.{name}.protocol", recipe.protocol, self.protocols)
            classes = self.protocols[recipe.protocol].labels.names
            for label in recipe.evaluate.headline:
                _known(f"recipes.{name}.evaluate.headline", label, classes)
        return self

    def recipe(self, name: str) -> Recipe:
        return _pick("recipe", name, self.recipes)

    def dataset(self, name: str) -> Dataset:
        return _pick("dataset", name, self.datasets)

    def scheme(self, protocol: str) -> LabelScheme:
        return _pick("protocol", protocol, self.protocols).labels

    def protocol_of(self, recipe: str) -> Protocol:
        return self.protocols[self.recipe(recipe).protocol]

    def scheme_of(self, recipe: str) -> LabelScheme:
        return self.protocol_of(recipe).labels


def read_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises
    ------
    ConfigError
        Naming each parameter that is unknown, missing or out of range.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        rows = [
            f"{'.'.join(str(part) for part in row['loc']) or 'params'}: {row['msg']}"
            + (f" (got {row['input']!r})" if row["type"] != "missing" and row["loc"] else "")
            for row in error.errors()
        ]
        raise ConfigError(f"{path}: " + "; ".join(rows)) from error


def _known(where: str, name: str, among: Any) -> None:
    if name not in among:
        raise ValueError(f"{where}: expected one of {', '.join(among)}; got {name!r}")


def _pick(kind: str, name: str, among: Mapping[str, Value]) -> Value:
    if name not in among:
        raise ConfigError(f"{kind}: expected one of {', '.join(among)}; got {name!r}")
    return among[name]
