"""The usual way to serve such a network, as public student projects do it.

A Flask application under its own server; the upload is saved to disk under the name that it came
with, read back by Keras' image loader, and given to `model.predict`. The network has the layers
of `student-double` for pictures of 64 x 64 x 3 (two Conv2D of 32 with MaxPooling, Dense 32, six
classes), with random weights: what it answers means nothing, how fast it does is what counts.

    python usual.py save FOLDER        writes FOLDER/model.keras
    python usual.py serve FOLDER PORT  serves it on 127.0.0.1
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

CLASSES = ("APC", "LBB", "NOR", "PVC", "RBB", "VEB")
SIDE = 64


def save(folder: Path) -> None:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(len(CLASSES), activation="softmax"),
        ]
    )
    network.save(folder / "model.keras")


def serve(folder: Path, port: int) -> None:
    import numpy as np
    from flask import Flask, request
    from keras.models import load_model
    from keras.utils import img_to_array, load_img

    app = Flask(__name__)
    model = load_model(folder / "model.keras")
    uploads = folder / "uploads"
    uploads.mkdir(exist_ok=True)
    # Its lines a request are switched off, in its favour.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    @app.get("/")
    def index() -> str:
        return "ready"

    @app.post("/predict")
    def predict() -> str:
        file = request.files["file"]
        path = uploads / str(file.filename)
        file.save(path)
        pixels = img_to_array(load_img(path, target_size=(SIDE, SIDE)))
        answer = model.predict(np.expand_dims(pixels, axis=0), verbose=0)
        return CLASSES[int(np.argmax(answer))]

    app.run("127.0.0.1", port)


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(Path(sys.argv[2]))
    else:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
