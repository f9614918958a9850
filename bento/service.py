"""The service: beat images in, label and probabilities out.

It stands in a bento beside bundle.json, which names the model that the bento was built for.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import bentoml
import numpy as np
from bentoml.models import BentoModel
from pydantic import BaseModel, Field

from bento.problems import ProblemMiddleware, Refused, log_refusals_in_one_line
from bento.uploads import Images
from ecgbeats.errors import ContractError, ImageError
from ecgbeats.files import read_json, sha256_file
from ecgbeats.imaging.png import decode_upload
from ecgbeats.inference import CARD, Classifier

BUNDLE = read_json(Path(__file__).with_name("bundle.json"))


class Model(BaseModel):
    """The model that answered."""

    name: str = Field(examples=["ecgbeats-mitdb-aami5"])
    version: str = Field(description="Of the registered model.", examples=["3"])
    recipe: str = Field(examples=["mitdb-aami5"])
    spec_id: str = Field(description="Of the images that it takes.", examples=["9951e16f64949ec1"])


class Beat(BaseModel):
    """What one image was taken for."""

    file: int = Field(description="Place among the uploaded files, from 0.", examples=[0])
    label: str = Field(
        description='The most probable class, or "uncertain" where its probability is below '
        "what the model was set to answer from.",
        examples=["V"],
    )
    most_probable: str = Field(description="The most probable class in any case.", examples=["V"])
    probabilities: dict[str, float] = Field(
        description="Of every class; they add up to 1.",
        examples=[{"N": 0.02, "S": 0.01, "V": 0.96, "F": 0.01, "Q": 0.0}],
    )


class Classification(bentoml.IODescriptor):
    """One result for each image, in the order of upload."""

    model: Model
    results: list[Beat]


@bentoml.service(name="BeatClassifier")
class BeatClassifier:
    """Classifies heartbeats from beat images. Not a medical device."""

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
        self._model = Model(spec_id=self._classifier.spec.spec_id, **BUNDLE["about"])

    @bentoml.api(input_spec=Images)
    def classify(self, file: list[bytes]) -> Classification:
        """Classify one or more beat images (PNG or JPEG, form field `file`)."""
        images = np.stack([self._decode(i, data) for i, data in enumerate(file)])
        classes = self._classifier.classes
        probabilities = self._classifier.predict(images)
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


BeatClassifier.add_asgi_middleware(ProblemMiddleware)
