"""params.yaml as typed, frozen values: an unknown or impossible parameter is an error here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ecgbeats.errors import ConfigError
from ecgbeats.imaging.spec import ImageSpec, without_defaults
from ecgbeats.labels import LabelScheme
from ecgbeats.monitoring.settings import MonitorParams

Value = TypeVar("Value")

# What is measured of a network on the machine that decides (`ecgbeats.latency`).
_LATENCIES = ("latency.one_ms", "latency.batch_ms")

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


class WfdbFolderSource(Section):
    """Annotated WFDB records in a folder on this machine, whoever took them."""

    source: Literal["wfdb-folder"]
    # Relative to params.yaml.
    folder: str = Field(min_length=1)
    annotator: str = Field(default="atr", pattern=r"^[A-Za-z0-9_-]+$")
    # DVC looks at parameters, not into the folder: change this when the folder has changed.
    version: str = "1"
    licence: str
    citation: str
    synthetic: bool = False
    # Who is who: some records by name, all in a table (CSV: record,patient), or all by a
    # regular expression whose one group is the patient. By default each record is a patient.
    patients: Mapping[str, str] = {}
    patients_file: str | None = None
    patients_rule: str | None = None
    # Records that are not to be taken, e.g. because they cannot be read.
    skip_records: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_way_to_patients(self) -> WfdbFolderSource:
        ways = [self.patients, self.patients_file, self.patients_rule]
        if sum(bool(way) for way in ways) > 1:
            raise ValueError("give one of patients, patients_file and patients_rule")
        return self


class ImageFolderSource(Section):
    """Class folders of plain beat pictures, or a zip of them; where they are, the caller says."""

    source: Literal["image-folder"]
    version: str
    licence: str
    citation: str
    # What a reader of every page on this data must know.
    remarks: tuple[str, ...] = ()
    # Pictures that correlate as much, once brought to one plane, count as one beat.
    twin_correlation: float = Field(default=0.92, gt=0.5, le=1)


Dataset = Annotated[
    PhysioNetSource | SampleSource | WfdbFolderSource | ImageFolderSource,
    Field(discriminator="source"),
]


class Union(Section):
    """A dataset and one that was added to it (`ecgbeats data add`), as a dataset of its own."""

    # A dataset, or a union.
    base: str
    # As `ecgbeats data list` has it.
    added: Name


class AdditionParams(Section):
    """By what new data are judged."""

    # Protocol whose classes are counted; by default that of the first recipe on recordings.
    labels: str | None = None
    # Recipe whose champion is asked; without one, and before there is one, the carried model.
    recipe: str | None = None
    # Least share of a class's beats that the model calls so; no model is asked where empty.
    agreement: Mapping[str, Annotated[float, Field(ge=0, le=1)]] = {}


class PatientSplit(Section):
    """Whole patients to one side.

    Either the test records are named (a published split), or a share of the patients
    is drawn, balanced over classes. Of images, a patient is a group of pictures that look
    the same.
    """

    by: Literal["patient"]
    train_records: tuple[str, ...] = ()
    test_records: tuple[str, ...] = ()
    test_share: float | None = Field(default=None, gt=0, lt=1)
    # The dataset's own test part tests, where it has one; else the share.
    published_part: bool = False
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


class NoRegression(Section):
    """How much worse than the champion a challenger may be, on the same test beats."""

    # Dotted path in metrics.json: accuracy, headline.macro_f1, or gross.<class>.se, ppv or f1.
    metric: str
    # The lower end of the difference's 95 % interval may be so far below none.
    margin: float = Field(ge=0, lt=1)


class Protocol(Section):
    """Label scheme, which records, how they are split, and what a model must reach."""

    labels: LabelScheme
    exclude_records: tuple[str, ...] = ()
    # A published split that parts one person's records must say so here, by name.
    patients_on_both_sides: tuple[str, ...] = ()
    split: Annotated[PatientSplit | BeatSplit, Field(discriminator="by")]
    gate: tuple[Check, ...] = Field(min_length=1)
    # What hangs on the machine and on the registry, and so is asked anew at each decision.
    serving: tuple[Check, ...] = ()
    no_regression: tuple[NoRegression, ...] = (
        NoRegression(metric="headline.macro_f1", margin=0.10),
    )

    @model_validator(mode="after")
    def _pictures_have_no_records(self) -> Protocol:
        if self.labels.of_folders and self.exclude_records:
            raise ValueError("exclude_records: pictures are in no records")
        return self

    @model_validator(mode="after")
    def _decisions_ask_what_there_is(self) -> Protocol:
        # Here, for a decision comes after hours of training.
        compared = {"accuracy", "headline.macro_f1"} | {
            f"gross.{name}.{kind}" for name in self.labels.names for kind in ("se", "ppv", "f1")
        }
        asked = [("no_regression", each.metric, compared) for each in self.no_regression]
        asked += [("serving", check.metric, {*_LATENCIES}) for check in self.serving]
        for section, metric, known in asked:
            if metric not in known:
                raise ValueError(f"{section}: expected one of {sorted(known)}, got {metric!r}")
        return self


class ModelParams(Section):
    name: str
    options: Mapping[str, Any] = {}
    # Options by which the members of `train.members` differ, taken in turn: networks that err
    # apart gain most by their mean.
    kinds: tuple[Mapping[str, Any], ...] = ()

    @model_validator(mode="after")
    def _pair_is_two(self) -> ModelParams:
        for options in (self.options, *self.kinds):
            pair = options.get("told_by_rhythm")
            if pair is not None and not (isinstance(pair, (list, tuple)) and len(pair) == 2):
                raise ValueError(f"options.told_by_rhythm: expected two classes, got {pair!r}")
        return self

    @property
    def named_classes(self) -> tuple[str, ...]:
        """Classes that options speak of."""
        pairs = [options.get("told_by_rhythm") or () for options in (self.options, *self.kinds)]
        return tuple(str(label) for pair in pairs for label in pair)

    def of_member(self, member: int) -> ModelParams:
        """What the member `member`, from 0, is: of one kind, with all its options."""
        if not self.kinds:
            return self
        kind = self.kinds[member % len(self.kinds)]
        return ModelParams(name=self.name, options={**self.options, **kind})


class NineCrop(Section):
    """Windows left, centre, right x top, centre, bottom, brought back to the full image.

    Jun et al. 2018, arXiv 1804.06812: 96 of 128 pixels, all classes but the normal one, which
    so had ten images for one: classes, copies 10.
    """

    # Names of the classes that are cropped; by default all.
    classes: tuple[str, ...] | None = None
    # Of being cropped at all; one image in ten is left whole, as theirs were.
    probability: float = Field(default=0.9, gt=0, le=1)
    # Side of the window as share of the image's.
    share: float = Field(default=0.75, gt=0, lt=1)
    # How often a beat of these classes is shown in an epoch, each time anew cropped.
    copies: int = Field(default=1, ge=1, le=100)


class RhythmContexts(Section):
    """Rhythm strips as in other recordings (`ecgbeats.contexts`)."""

    # Of a beat being compared with another context than its whole recording.
    probability: float = Field(default=0.75, gt=0, le=1)
    # Parts of so many minutes.
    cut_minutes: tuple[Annotated[float, Field(gt=0)], ...] = ()
    # The recording as if these shares of its beats were of this class.
    ectopic: str | None = None
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()

    @model_validator(mode="after")
    def _some_context(self) -> RhythmContexts:
        if (self.ectopic is None) != (not self.shares):
            raise ValueError("ectopic and shares: give both or none")
        if not self.cut_minutes and not self.shares:
            raise ValueError("expected cut_minutes, or ectopic and shares")
        return self


class LeadChanges(Section):
    """Leads as other electrodes and recorders would have them (`ecgbeats.imaging.leads`).

    Probabilities, drawn for each image; of images whose panels show polarity.
    """

    # Of each lead, by itself.
    inverted: float = Field(default=0.0, ge=0, le=1)
    # Of the two leads with each other.
    exchanged: float = Field(default=0.0, ge=0, le=1)
    # Of the second.
    missing: float = Field(default=0.0, ge=0, le=1)


class AugmentParams(Section):
    """Random changes to training images (`ecgbeats.augmentation`); all off by default.

    Each value is the most that is drawn, evenly from none (or from its negative) to it.
    """

    # Share of the images that are changed at all.
    probability: float = Field(default=1.0, gt=0, le=1)
    nine_crop: NineCrop | None = None
    # A window less by up to this share of the sides, anywhere, brought back to full size.
    crop: float = Field(default=0.0, ge=0, lt=1)
    # In time, as share of the width: R marked early or late.
    shift: float = Field(default=0.0, ge=0, lt=1)
    # Natural logarithm of the factor. Traces: both axes; panels: the beat's duration.
    zoom: float = Field(default=0.0, ge=0, le=1)
    # Rows a column: of a trace, a sloping baseline.
    shear: float = Field(default=0.0, ge=0, le=2)
    # Change of local speed, as a sine over the image; R stays where it is.
    time_warp: float = Field(default=0.0, ge=0, lt=1)
    # Natural logarithm of the factor on the signal.
    amplitude: float = Field(default=0.0, ge=0, le=2)
    # Added sine of 0.15 to 0.5 Hz, in millivolts; of panels, in R amplitudes.
    baseline_wander: float = Field(default=0.0, ge=0, le=5)
    # Standard deviation of noise on pixels, in grey levels.
    noise: float = Field(default=0.0, ge=0, le=128)
    # Added to all pixels of a trace, in grey levels.
    brightness: float = Field(default=0.0, ge=0, le=128)
    # Probabilities. Mind: time running backwards makes of a beat something that does not
    # exist (T before QRS before P); upside down is a lead with its electrodes swapped, and
    # some classes are told from others by polarity alone.
    flip_horizontal: float = Field(default=0.0, ge=0, le=1)
    flip_vertical: float = Field(default=0.0, ge=0, le=1)
    # Standard deviation of noise on each block of the rhythm strip, in grey levels (16 are
    # a tenth of ln RR ratio).
    rhythm_jitter: float = Field(default=0.0, ge=0, le=128)
    rhythm_contexts: RhythmContexts | None = None
    # Exact in panels and values alike, so of images with values too.
    leads: LeadChanges | None = None

    # Came later than rows of the benchmark: written where they are on, so that keys stay.
    LATER: ClassVar[tuple[str, ...]] = ("leads",)

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(write(self), type(self), self.LATER)

    @property
    def any(self) -> bool:
        """Whether anything is on."""
        return self.any_on_pixels or self.rhythm_contexts is not None

    @property
    def any_on_pixels(self) -> bool:
        """Whether anything is on that needs nothing but the image."""
        off = type(self)(probability=self.probability, rhythm_contexts=self.rhythm_contexts)
        return self != off


class TrainParams(Section):
    """How the network is fitted; one seed settles all chance."""

    seed: int = 0
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    # Weight of a class is (1 / its share) ** class_balance: 0 none, 1 full.
    class_balance: float = Field(default=0.0, ge=0, le=1)
    # Share of a class's beats that an epoch shows, drawn anew each time; they weigh as much more.
    # Where most beats are normal, most of the time goes into telling again what is known.
    epoch_share: Mapping[str, Annotated[float, Field(gt=0, le=1)]] = {}
    # No earlier epoch counts as the best: at a high learning rate a good score is chance.
    min_epochs: int = Field(default=1, ge=1)
    # Epochs without a better score on the validation side before training stops.
    patience: int = Field(ge=1)
    # After stopping, train anew on all training patients for the best number of epochs.
    refit: bool = False
    # False: at once on all training patients, to the last epoch; nothing is chosen or calibrated
    # by the validation side, whose few patients may be misleading.
    select: bool = True
    # Networks trained apart, from other starts and in other orders, whose mean is the answer
    # (Lakshminarayanan, Pritzel and Blundell 2017).
    members: int = Field(default=1, ge=1, le=20)
    # Fitted on the validation side's answers; the exported network has it built in.
    calibrate: Literal["temperature", "none"] = "temperature"
    augment: AugmentParams = AugmentParams()
    # In what the network computes while it is trained (`ecgbeats.devices`); weights, and what is
    # exported, are float32.
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    # Each takes its part of every batch; batch normalisation knows that part alone.
    devices: int = Field(default=1, ge=1, le=64)

    # Parameters that came later: what a training is known by has them where they are set.
    LATER: ClassVar[tuple[str, ...]] = ("precision", "devices")

    @model_serializer(mode="wrap")
    def _as_ever(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(write(self), type(self), self.LATER)

    @model_validator(mode="after")
    def _enough_for_each(self) -> TrainParams:
        if self.batch < self.devices:
            raise ValueError(f"batch {self.batch} is less than devices {self.devices}")
        return self

    @model_validator(mode="after")
    def _some_epoch_counts(self) -> TrainParams:
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs {self.min_epochs} is more than epochs {self.epochs}")
        if not self.select and not (self.refit and self.calibrate == "none"):
            raise ValueError("select: false needs refit: true and calibrate: none")
        return self


def _check_kinds(model: ModelParams, train: TrainParams) -> None:
    if len(model.kinds) > train.members:
        raise ValueError(
            f"train.members: expected at least one of each of model.kinds, {len(model.kinds)}; "
            f"got {train.members}"
        )


class EvaluateParams(Section):
    # Classes whose mean F1 is the headline.
    headline: tuple[str, ...] = Field(min_length=1)
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0


class AnswerParams(Section):
    """What a model says of the probabilities that it finds; written into its card."""

    # With less confidence than this in the most probable class the answer is "uncertain".
    abstain_below: float = Field(default=0.0, ge=0, le=1)


class CrossvalParams(Section):
    """Folds in place of the protocol's own sides; every beat that they are over is tested once."""

    folds: int = Field(default=10, ge=2)
    # "training": only what the protocol does not test. What is chosen, is chosen there.
    over: Literal["all", "training"] = "all"
    # By default as the protocol's own split.
    by: Literal["patient", "beat"] | None = None
    # Seeds of training; by default the recipe's own. The folds are the same for all.
    seeds: tuple[int, ...] = ()


class Dimension(Section):
    """What a search may give one parameter: a range, whole numbers, or one of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    # Where a factor matters, not a difference: learning rates.
    log: tuple[float, float] | None = None
    linear: tuple[float, float] | None = Field(default=None, alias="float")
    whole: tuple[int, int] | None = Field(default=None, alias="int")
    choice: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        given = [self.log, self.linear, self.whole, self.choice]
        if sum(kind is not None for kind in given) != 1:
            raise ValueError("give just one of log, float, int and choice")
        for bounds in (self.log, self.linear, self.whole):
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError(f"expected [low, high], got {list(bounds)}")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"log: expected a low above 0, got {self.log[0]}")
        if self.choice is not None and not self.choice:
            raise ValueError("choice: expected at least one value")
        return self

    def ends(self) -> tuple[Any, ...]:
        """Both ends of a range, all values of a list."""
        return self.log or self.linear or self.whole or self.choice or ()


class TuneParams(Section):
    """A search for better parameters, by cross-validation over the training patients alone."""

    trials: int = Field(default=20, ge=1)
    folds: int = Field(default=4, ge=2)
    seed: int = 0
    # Trials that are drawn at random, and never given up, before the search learns from them.
    startup: int = Field(default=5, ge=1)
    # Folds after which a trial that is worse than the median of those before is given up.
    prune_after: int = Field(default=2, ge=1)
    # By dotted path within the recipe, e.g. train.learning_rate or model.options.dense.
    space: Mapping[str, Dimension] = Field(min_length=1)


class Recipe(Section):
    """One way from recordings to a model."""

    dataset: str
    protocol: str
    image: ImageSpec
    model: ModelParams
    train: TrainParams
    answer: AnswerParams = AnswerParams()
    evaluate: EvaluateParams
    crossval: CrossvalParams = CrossvalParams()
    tune: TuneParams | None = None
    monitor: MonitorParams = MonitorParams()

    @model_validator(mode="after")
    def _a_member_of_each_kind(self) -> Recipe:
        _check_kinds(self.model, self.train)
        return self

    @model_validator(mode="after")
    def _space_is_possible(self) -> Recipe:
        for path, dimension in self.tune.space.items() if self.tune else ():
            for value in dimension.ends():
                try:
                    self.with_values({path: value})
                except ValidationError as error:
                    raise ValueError(f"tune.space.{path}: {_in_words(error)}") from error
        return self

    def with_values(self, values: Mapping[str, Any]) -> Recipe:
        """This recipe with other parameters of model and training, by their dotted paths.

        Raises
        ------
        ValueError
            A path that leads elsewhere; as ValidationError, one to no parameter, or a value
            out of range.
        """
        sections = {
            "model": self.model.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json"),
        }
        for path, value in values.items():
            head, *rest = path.split(".")
            if head not in sections or not rest:
                why = "; other images have to be drawn first" if head == "image" else ""
                raise ValueError(f"{path}: expected train.* or model.*{why}")
            if rest == ["seed"]:
                raise ValueError(f"{path}: a seed that is chosen says nothing of other seeds")
            inner: dict[str, Any] = sections[head]
            for name in rest[:-1]:
                inner[name] = dict(inner[name]) if isinstance(inner.get(name), Mapping) else {}
                inner = inner[name]
            inner[rest[-1]] = value
        return self.model_copy(
            update={
                "model": ModelParams.model_validate(sections["model"]),
                "train": TrainParams.model_validate(sections["train"]),
            }
        )


class BenchmarkFolds(Section):
    """Every beat tested once: instead of a protocol's own split, or within its training side."""

    number: int = Field(ge=2)
    by: Literal["patient", "beat"]
    # "training": of the protocol's own split only what is not tested. What is chosen, is
    # chosen there.
    over: Literal["all", "training"] = "all"
    seed: int = 0


class BenchmarkProtocol(Section):
    """One table of the benchmark."""

    dataset: str
    protocol: str
    # What a reader must know about these figures.
    about: str = ""
    headline: tuple[str, ...] = Field(min_length=1)
    # Another set of classes whose mean F1 is shown.
    also: tuple[str, ...] = ()
    # The class whose figures are shown without its largest patient, and as mean of records.
    focus: str | None = None
    folds: BenchmarkFolds | None = None
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)


class System(Section):
    """What is trained: a recipe's image, model and training, or sections of its own.

    Sections given beside a recipe change single values of the recipe's.
    """

    about: str = ""
    recipe: str | None = None
    image: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    train: Mapping[str, Any] = {}
    # Names of the benchmark's protocols that it fits.
    protocols: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> System:
        if self.recipe is None and not (self.image and self.model and self.train):
            raise ValueError("give a recipe, or all of image, model and train")
        return self


class Setup(Section):
    """All that a training needs beside its beats."""

    image: ImageSpec
    model: ModelParams
    train: TrainParams

    @model_validator(mode="after")
    def _a_member_of_each_kind(self) -> Setup:
        _check_kinds(self.model, self.train)
        return self


class Ablation(Section):
    """A system with single values changed, under one protocol; compared with that system.

    In place of a system another ablation of that protocol, which is then changed further.
    """

    about: str = ""
    of: str
    protocol: str
    image: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    train: Mapping[str, Any] = {}


class Benchmark(Section):
    """Systems x protocols."""

    # Replicates of the patient-clustered bootstrap, and its seed.
    bootstrap: int = Field(default=2000, ge=100)
    seed: int = 0
    protocols: Mapping[Name, BenchmarkProtocol] = {}
    systems: Mapping[Name, System] = {}
    ablations: Mapping[Name, Ablation] = {}

    @model_validator(mode="after")
    def _names_resolve(self) -> Benchmark:
        for name, system in self.systems.items():
            for protocol in system.protocols:
                _known(f"systems.{name}.protocols", protocol, self.protocols)
        for name, ablation in self.ablations.items():
            _known(f"ablations.{name}.protocol", ablation.protocol, self.protocols)
            if name in self.systems:
                raise ValueError(f"ablations.{name}: there is a system of that name")
            self._leads_to_a_system(name)
        return self

    def _leads_to_a_system(self, name: str) -> None:
        protocol, seen, here = self.ablations[name].protocol, [name], self.ablations[name].of
        same = [k for k, v in self.ablations.items() if v.protocol == protocol]
        while here not in self.systems:
            _known(f"ablations.{seen[-1]}.of", here, [*self.systems, *same])
            if here in seen:
                raise ValueError(f"ablations.{name}.of: {' of '.join([*seen, here])} goes round")
            seen.append(here)
            here = self.ablations[here].of


class Params(Section):
    """The whole of params.yaml."""

    datasets: Mapping[Name, Dataset]
    protocols: Mapping[Name, Protocol]
    recipes: Mapping[Name, Recipe]
    benchmark: Benchmark = Benchmark()
    # What `ecgbeats retrain --with` writes.
    unions: Mapping[Name, Union] = {}
    additions: AdditionParams = AdditionParams()

    @model_validator(mode="after")
    def _unions_lead_to_a_dataset(self) -> Params:
        for name in self.unions:
            if name in self.datasets:
                raise ValueError(f"unions.{name}: there is a dataset of that name")
            seen, here = [name], self.unions[name].base
            while here in self.unions and here not in seen:
                seen, here = [*seen, here], self.unions[here].base
            _known(f"unions.{name}: base", here, self.datasets)
        return self

    @model_validator(mode="after")
    def _additions_resolve(self) -> Params:
        asked = self.additions
        if asked.labels is not None:
            _known("additions.labels", asked.labels, self.protocols)
            for label in asked.agreement:
                _known("additions.agreement", label, self.protocols[asked.labels].labels.names)
        if asked.recipe is not None:
            _known("additions.recipe", asked.recipe, self.recipes)
        return self

    @model_validator(mode="after")
    def _names_resolve(self) -> Params:
        for name, recipe in self.recipes.items():
            _known(f"recipes.{name}.dataset", recipe.dataset, {**self.datasets, **self.unions})
            _known(f"recipes.{name}.protocol", recipe.protocol, self.protocols)
            classes = self.protocols[recipe.protocol].labels.names
            root, _ = self.parts_of(recipe.dataset)
            pictures = isinstance(self.datasets[root], ImageFolderSource)
            if pictures != self.protocols[recipe.protocol].labels.of_folders:
                raise ValueError(
                    f"recipes.{name}: pictures need a protocol whose classes are lists of "
                    f"folders, recordings one of annotation symbols"
                )
            for label in recipe.evaluate.headline:
                _known(f"recipes.{name}.evaluate.headline", label, classes)
            for label in recipe.model.named_classes:
                _known(f"recipes.{name}.model: told_by_rhythm", label, classes)
        return self

    @model_validator(mode="after")
    def _benchmark_resolves(self) -> Params:
        for name, table in self.benchmark.protocols.items():
            where = f"benchmark.protocols.{name}"
            _known(f"{where}.dataset", table.dataset, self.datasets)
            _known(f"{where}.protocol", table.protocol, self.protocols)
            classes = self.protocols[table.protocol].labels.names
            for label in (*table.headline, *table.also, *([table.focus] if table.focus else ())):
                _known(where, label, classes)
        for name, system in self.benchmark.systems.items():
            if system.recipe is not None:
                _known(f"benchmark.systems.{name}.recipe", system.recipe, self.recipes)
        for name in (*self.benchmark.systems, *self.benchmark.ablations):
            try:
                named = self.setup(name).model.named_classes
            except ValidationError as error:
                raise ValueError(f"benchmark: {name}: {_in_words(error)}") from error
            for protocol in self._protocols_of(name):
                classes = self.protocols[self.benchmark.protocols[protocol].protocol].labels.names
                for label in named:
                    _known(f"benchmark: {name} under {protocol}: told_by_rhythm", label, classes)
        return self

    def _protocols_of(self, name: str) -> tuple[str, ...]:
        if name in self.benchmark.ablations:
            return (self.benchmark.ablations[name].protocol,)
        return self.benchmark.systems[name].protocols

    def setup(self, name: str) -> Setup:
        """Image, model and training of a system or an ablation of the benchmark."""
        changed: Ablation | System
        if name in self.benchmark.ablations:
            changed = self.benchmark.ablations[name]
            base = self.setup(changed.of).model_dump(exclude_unset=True)
        else:
            changed = system = _pick("system", name, self.benchmark.systems)
            recipe = self.recipe(system.recipe) if system.recipe is not None else None
            base = recipe.model_dump(exclude_unset=True) if recipe is not None else {}
        return Setup.model_validate(
            {
                "image": _changed(base.get("image", {}), changed.image, "representation"),
                "model": _changed(base.get("model", {}), changed.model, "name"),
                "train": {**base.get("train", {}), **changed.train},
            }
        )

    def recipe(self, name: str) -> Recipe:
        return _pick("recipe", name, self.recipes)

    def dataset(self, name: str) -> Dataset:
        return _pick("dataset", name, self.datasets)

    def parts_of(self, dataset: str) -> tuple[str, tuple[str, ...]]:
        """The dataset that a dataset or union goes back to, and what was added, in order."""
        added: list[str] = []
        while dataset in self.unions:
            added.insert(0, self.unions[dataset].added)
            dataset = self.unions[dataset].base
        return dataset, tuple(added)

    def additions_of(self, recipe: str) -> tuple[str, ...]:
        """What was added to the dataset of `recipe`."""
        return self.parts_of(self.recipe(recipe).dataset)[1]

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
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_in_words(error)}") from error


def _in_words(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in row['loc']) or 'params'}: {row['msg']}"
        + (f" (got {row['input']!r})" if row["type"] != "missing" and row["loc"] else "")
        for row in error.errors()
    )


def _changed(base: Mapping[str, Any], change: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """`base` with some values changed; of another kind, `change` stands alone."""
    if kind in change and change[kind] != base.get(kind):
        return change
    if "options" in base and "options" in change:
        change = {**change, "options": {**base["options"], **change["options"]}}
    return {**base, **change}


def _known(where: str, name: str, among: Any) -> None:
    if name not in among:
        raise ValueError(f"{where}: expected one of {', '.join(among)}; got {name!r}")


def _pick(kind: str, name: str, among: Mapping[str, Value]) -> Value:
    if name not in among:
        raise ConfigError(f"{kind}: expected one of {', '.join(among)}; got {name!r}")
    return among[name]
