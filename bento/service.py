"""The service: beat images and recordings in, labels and probabilities out.

It stands in a bento beside bundle.json, which names the models that the bento was built of and
says what is known of them.
"""

from __future__ import annotations

import base64
import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import anyio
import bentoml
import numpy as np
from bentoml.models import BentoModel
from bentoml.validators import ContentType
from PIL import Image

from bento import settings, tuning
from bento.answers import Beat, Card, Classification, Model, Picture, RecordClassification
from bento.batching import Batches
from bento.guards import WORKERS, guards, refuse_upgrades
from bento.inputs import Explained, Images, Record, Signal
from bento.limits import MAX_PIXELS
from bento.metrics import metrics
from bento.observing import observe_images
from bento.pixels import check_pixels
from bento.problems import Refused, log_without_words
from bento.site import BUNDLE, CARD_OF_MODEL, site
from bento.tracing import tracing
from bento.uploads import Upload
from ecgbeats.batches import predict_all
from ecgbeats.errors import ContractError, ImageError
from ecgbeats.files import sha256_file
from ecgbeats.imaging.png import decode_upload, encode_png
from ecgbeats.inference import CARD, Classifier
from ecgbeats.labels import LabelScheme
from ecgbeats.likeness import check_likeness, named_spec

T = TypeVar("T")
# SciPy's signal processing takes a second or two to import, and BentoML imports this module in
# two processes, one after the other. What needs it is imported when it is needed, which the
# worker sees to while it answers already.
_LATER = ("bento.recordings", "ecgbeats.occlusion")


@bentoml.service(
    name="BeatClassifier",
    workers=tuning.WORKERS,
    # `bento.guards` has its own of these.
    metrics={"enabled": False},
    logging={"access": {"enabled": settings.flag("BENTOML_ACCESS_LOG")}},
    traffic={"timeout": 86_400.0},
    envs=[{"name": name, "value": value} for name, value in WORKERS.items()],
    tracing=tracing(),
)
class BeatClassifier:
    """Classifies heartbeats from beat images and from recordings. Not a medical device."""

    # The model that the bento is of, and one for plain pictures beside it if there is one.
    stored = BentoModel(BUNDLE["models"][0]["model"])
    stored_beside = BentoModel(BUNDLE["models"][1]["model"]) if len(BUNDLE["models"]) > 1 else None

    def __init__(self) -> None:
        log_without_words()
        self._loaded = [
            _load(Path(stored.path), entry)
            for stored, entry in zip(
                filter(None, (self.stored, self.stored_beside)), BUNDLE["models"], strict=True
            )
        ]
        self._classifier, self._model = self._loaded[0].classifier, self._loaded[0].about
        about = CARD_OF_MODEL
        self._scheme = (
            None
            if about.labels is None
            else LabelScheme(source=about.labels_source or "the bento", classes=about.labels)
        )
        # Recordings take seconds and memory, explanations hundreds of answers: one after another
        # of each, beside the images.
        self._limits: dict[str, anyio.CapacityLimiter] = {}
        threading.Thread(target=_import_later, daemon=True).start()

    @bentoml.api(input_spec=Images)
    async def classify(
        self, file: list[bytes], pictures: list[int] | None = None
    ) -> Classification:
        """Classify one or more beat images (PNG or JPEG, form field `file`).

        An image that names its spec is answered by the model of that spec; a plain picture by
        the model for such, if the bento holds one. What does not look like a beat is refused.
        """
        pictures = pictures or []
        if pictures and max(pictures) >= len(file):
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "no_such_beat",
                expected=f"places from 0 to {len(file) - 1}",
                got=str(max(pictures)),
            )
        if not tuning.at_once(file):
            return await self._alone("images", lambda: self._classified(file, pictures))
        loaded, image = self._decode(0, file[0])
        probabilities = await loaded.batches.predict(image)
        results = _beats(loaded, [0], image[None], probabilities)
        shown = _pictures([(loaded, image)], pictures)
        return Classification(model=self._model, results=results, pictures=shown)

    def _classified(self, file: list[bytes], pictures: list[int]) -> Classification:
        check_pixels(file)
        results: dict[int, Beat] = {}
        decoded = [self._decode(i, data) for i, data in enumerate(file)]
        for loaded in self._loaded:
            places = [i for i, (by, _) in enumerate(decoded) if by is loaded]
            if places:
                images = np.stack([decoded[i][1] for i in places])
                count = partial(metrics().batch, loaded.about.name)
                probabilities = predict_all(loaded.classifier, images, count)
                results |= zip(places, _beats(loaded, places, images, probabilities), strict=True)
        return Classification(
            model=self._model,
            results=[results[i] for i in sorted(results)],
            pictures=_pictures(decoded, pictures),
        )

    @bentoml.api(input_spec=Signal)
    async def classify_signal(
        self,
        file: list[Upload],
        fs: float | None = None,
        units: str | None = None,
        gain: float | None = None,
        lead: str | None = None,
        trace: bool = False,
        pictures: list[int] | None = None,
    ) -> RecordClassification:
        """Find and classify the beats of samples in CSV or JSON.

        A form with the field `file` and the others beside it; or the file itself as the body
        (text/csv, application/json), the others in the address.
        """

        def answer() -> RecordClassification:
            from bento import recordings

            read = recordings.read_signal(file, fs=fs, units=units, gain=gain, lead=lead)
            return recordings.classify(
                self._classifier,
                self._model,
                read,
                self._scheme,
                trace=trace,
                pictures=pictures or (),
                endpoint="classify_signal",
            )

        return _counted(await self._alone("recording", answer))

    @bentoml.api(input_spec=Record)
    async def classify_record(
        self,
        file: list[Upload],
        beats: Literal["detected", "annotated"] = "detected",
        annotator: str = "atr",
        lead: str | None = None,
        trace: bool = False,
        pictures: list[int] | None = None,
    ) -> RecordClassification:
        """Find and classify the beats of a WFDB record (.hea and .dat, or a zip of them).

        Where annotations come with it (.atr), the answers are compared with them.
        """

        def answer() -> RecordClassification:
            from bento import recordings

            read = recordings.read_files(file, annotator, self._scheme, lead=lead)
            return recordings.classify(
                self._classifier,
                self._model,
                read,
                self._scheme,
                beats_from=beats,
                trace=trace,
                pictures=pictures or (),
            )

        return _counted(await self._alone("recording", answer))

    @bentoml.api(input_spec=Explained)
    async def explain(
        self, file: list[bytes], label: str | None = None
    ) -> Annotated[Image.Image, ContentType("image/png")]:
        """What the answer to one beat image rests on, as a PNG.

        Red speaks for the class, blue against it, found by occlusion (Zeiler and Fergus, ECCV
        2014): parts of the image are emptied one after another.
        """
        return await self._alone("explanation", lambda: self._explained(file[0], label))

    def _explained(self, data: bytes, label: str | None) -> Image.Image:
        from ecgbeats.occlusion import occlusion_map, overlay

        loaded, image = self._decode(0, data)
        classifier = loaded.classifier
        classes = classifier.classes
        if label is not None and label not in classes:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "no_such_class",
                expected=f"one of {', '.join(classes)}",
                got=repr(label[:32]),
            )
        k = int(classifier.predict(image[None])[0].argmax())
        k = k if label is None else classes.index(label)
        found = occlusion_map(classifier.predict, image, k, classifier.spec)
        return Image.fromarray(overlay(image, found))

    async def _alone(self, kind: str, answer: Callable[[], T]) -> T:
        limit = self._limits.setdefault(kind, anyio.CapacityLimiter(1))
        return await anyio.to_thread.run_sync(answer, limiter=limit)

    def _decode(self, index: int, data: bytes) -> tuple[_Loaded, np.ndarray]:
        """An uploaded image as the model takes it that is to answer it."""
        named = named_spec(data)
        of_spec = [each for each in self._loaded if each.about.spec_id == named]
        # Unnamed, it may be ours as a JPEG; then the first model takes it, else the one beside.
        candidates = of_spec or self._loaded
        refusal: ImageError | None = None
        for loaded in candidates:
            spec = loaded.classifier.spec
            try:
                image = decode_upload(data, spec, max_pixels=MAX_PIXELS)
                if named is None:
                    check_likeness(image, spec)
            except ImageError as error:
                # The words of the last: those on plain pictures, which a stranger understands.
                refusal = error if refusal is None or named is None else refusal
            else:
                return loaded, image
        assert refusal is not None
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            refusal.code,
            expected=refusal.expected,
            got=refusal.got,
            file=index,
        ) from refusal


@dataclass(frozen=True)
class _Loaded:
    classifier: Classifier
    about: Model

    @cached_property
    def batches(self) -> Batches:
        return Batches(self._predict)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        metrics().batch(self.about.name, len(images))
        return self.classifier.predict(images)


def _load(folder: Path, entry: Mapping[str, Any]) -> _Loaded:
    found, expected = sha256_file(folder / CARD), entry["card_sha256"]
    if found != expected:
        raise ContractError(f"{folder / CARD}: expected SHA-256 {expected}, found {found}")
    # The card in turn holds the hash of the network. One thread a prediction: requests, not
    # matrix rows, are what runs in parallel.
    classifier = Classifier.load(folder, threads=1)
    card = Card.model_validate(entry["card"])
    about = Model(
        name=card.name,
        version=card.version,
        recipe=card.recipe,
        spec_id=classifier.spec.spec_id,
    )
    return _Loaded(classifier, about)


def _beats(
    loaded: _Loaded, places: list[int], images: np.ndarray, probabilities: np.ndarray
) -> list[Beat]:
    classes = loaded.classifier.classes
    answers = loaded.classifier.answers(probabilities)
    observe_images("classify", loaded.classifier, loaded.about, images, probabilities, answers)
    beats = [
        Beat(
            file=place,
            model=loaded.about.name,
            label=answer,
            most_probable=classes[int(row.argmax())],
            probabilities=dict(zip(classes, row.tolist(), strict=True)),
        )
        for place, answer, row in zip(places, answers, probabilities, strict=True)
    ]
    metrics().beats(loaded.about.name, "image", beats)
    return beats


def _pictures(decoded: list[tuple[_Loaded, np.ndarray]], places: list[int]) -> list[Picture]:
    """The images at `places` as their models took them."""
    found = []
    for place in dict.fromkeys(places):
        loaded, image = decoded[place]
        png = base64.b64encode(encode_png(image, loaded.about.spec_id)).decode("ascii")
        found.append(Picture(beat=place, png=png))
    return found


def _counted(answer: RecordClassification) -> RecordClassification:
    metrics().recording(answer.model.name, answer.recording.seconds, answer.beats)
    return answer


def _import_later() -> None:
    for name in _LATER:
        importlib.import_module(name)


refuse_upgrades()
_PATHS = [api.route for api in BeatClassifier.apis.values()] + [route.path for route in site.routes]
for middleware, options in guards(_PATHS):
    BeatClassifier.add_asgi_middleware(middleware, **options)
BeatClassifier.mount_asgi_app(site)
