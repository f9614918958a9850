"""The service: beat images and recordings in, labels and probabilities out.

It stands in a bento beside bundle.json, which names the model that the bento was built for
and says what is known of it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import anyio
import bentoml
import numpy as np
from bentoml.models import BentoModel
from bentoml.validators import ContentType
from PIL import Image

from bento.answers import Beat, Classification, Model, RecordClassification
from bento.inputs import Explained, Images, Record, Signal
from bento.problems import ProblemMiddleware, Refused, log_refusals_in_one_line
from bento.site import BUNDLE, CARD_OF_MODEL, SecurityHeaders, site
from bento.uploads import Upload
from ecgbeats.batches import predict_all
from ecgbeats.errors import ContractError, ImageError
from ecgbeats.files import sha256_file
from ecgbeats.imaging.png import decode_upload
from ecgbeats.inference import CARD, Classifier
from ecgbeats.labels import LabelScheme

T = TypeVar("T")
# SciPy's signal processing takes a second or two to import, and BentoML imports this module in
# two processes, one after the other. What needs it is imported when it is needed, which the
# worker sees to while it answers already.
_LATER = ("bento.recordings", "ecgbeats.occlusion")


@bentoml.service(name="BeatClassifier")
class BeatClassifier:
    """Classifies heartbeats from beat images and from recordings. Not a medical device."""

    stored = BentoModel(BUNDLE["model"])

    def __init__(self) -> None:
        log_refusals_in_one_line()
        folder = Path(self.stored.path)
        found = sha256_file(folder / CARD)
        if found != BUNDLE["card_sha256"]:
            expected = BUNDLE["card_sha256"]
            raise ContractError(f"{folder / CARD}: expected SHA-256 {expected}, found {found}")
        # The card in turn holds the hash of the network. One thread a prediction: requests,
        # not matrix rows, are what runs in parallel.
        self._classifier = Classifier.load(folder, threads=1)
        about = CARD_OF_MODEL
        self._model = Model(
            name=about.name,
            version=about.version,
            recipe=about.recipe,
            spec_id=self._classifier.spec.spec_id,
        )
        self._scheme = (
            None
            if about.labels is None
            else LabelScheme(source=about.labels_source or "the bento", classes=about.labels)
        )
        # Recordings take seconds and memory: one after another, beside the images.
        self._one_at_a_time: anyio.CapacityLimiter | None = None
        threading.Thread(target=_import_later, daemon=True).start()

    @bentoml.api(input_spec=Images)
    def classify(self, file: list[bytes]) -> Classification:
        """Classify one or more beat images (PNG or JPEG, form field `file`)."""
        images = np.stack([self._decode(i, data) for i, data in enumerate(file)])
        classes = self._classifier.classes
        probabilities = predict_all(self._classifier, images)
        answers = self._classifier.answers(probabilities)
        return Classification(
            model=self._model,
            results=[
                Beat(
                    file=i,
                    label=answer,
                    most_probable=classes[int(row.argmax())],
                    probabilities=dict(zip(classes, row.tolist(), strict=True)),
                )
                for i, (answer, row) in enumerate(zip(answers, probabilities, strict=True))
            ],
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
            )

        return await self._alone(answer)

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

        return await self._alone(answer)

    @bentoml.api(input_spec=Explained)
    def explain(
        self, file: list[bytes], label: str | None = None
    ) -> Annotated[Image.Image, ContentType("image/png")]:
        """What the answer to one beat image rests on, as a PNG.

        Red speaks for the class, blue against it, found by occlusion (Zeiler and Fergus, ECCV
        2014): parts of the image are emptied one after another.
        """
        from ecgbeats.occlusion import occlusion_map, overlay

        classes = self._classifier.classes
        if label is not None and label not in classes:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "no_such_class",
                expected=f"one of {', '.join(classes)}",
                got=repr(label[:32]),
            )
        image = self._decode(0, file[0])
        k = int(self._classifier.predict(image[None])[0].argmax())
        k = k if label is None else classes.index(label)
        found = occlusion_map(self._classifier.predict, image, k, self._classifier.spec)
        return Image.fromarray(overlay(image, found))

    async def _alone(self, answer: Callable[[], T]) -> T:
        if self._one_at_a_time is None:
            self._one_at_a_time = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(answer, limiter=self._one_at_a_time)

    def _decode(self, index: int, data: bytes) -> np.ndarray:
        try:
            return decode_upload(data, self._classifier.spec)
        except ImageError as error:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                error.code,
                expected=error.expected,
                got=error.got,
                file=index,
            ) from error


def _import_later() -> None:
    for name in _LATER:
        importlib.import_module(name)


BeatClassifier.add_asgi_middleware(SecurityHeaders)
BeatClassifier.add_asgi_middleware(ProblemMiddleware)
BeatClassifier.mount_asgi_app(site)
