"""Batches for training. Imports Keras, so only training imports this module."""

from __future__ import annotations

import keras
import numpy as np

from ecgbeats.augmentation import Augmentation
from ecgbeats.contexts import Contexts
from ecgbeats.imaging.store import BeatImages

# Set the chance of augmentation and of contexts apart from that of the order.
_AUGMENT, _CONTEXT = 1, 2


class Feed(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no type information
    """Weighted batches in a new order each epoch, drawn from seed and epoch alone.

    Parameters
    ----------
    images : BeatImages
    labels : ndarray of int, shape (beats,)
        Class index of every beat of `images`.
    index : ndarray of int
        The beats to train on.
    weight : ndarray of float32, shape (classes,)
        Weight of a beat by its class.
    share : ndarray of float, shape (classes,), optional
        Share of a class's beats that an epoch shows, drawn anew each time; each of them then
        weighs as much more.
    augmentation : Augmentation, optional
        What is done to the images, drawn from seed, epoch and batch.
    contexts : Contexts, optional
        What the rhythm is compared with, drawn in the same way; before `augmentation`.
    """

    def __init__(
        self,
        images: BeatImages,
        labels: np.ndarray,
        index: np.ndarray,
        weight: np.ndarray,
        *,
        batch: int,
        seed: int,
        share: np.ndarray | None = None,
        augmentation: Augmentation | None = None,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__()
        if augmentation is not None:
            index = np.repeat(index, augmentation.copies(labels[index]))
        self._images, self._labels, self._index = images, labels, index
        self._shown = _shown(labels[index], len(weight), share)
        all_of = np.bincount(labels[index], minlength=len(weight))
        self._weight = weight * (all_of / np.maximum(self._shown, 1)).astype(np.float32)
        self._batch, self._seed = batch, seed
        self._augmentation, self._contexts = augmentation, contexts
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of the beats in `epoch`."""
        self._epoch = epoch
        order = np.random.default_rng([self._seed, epoch]).permutation(self._index)
        labels = self._labels[order]
        # Place of each beat among those of its class in this order.
        place = np.zeros(len(order), np.int64)
        for k in range(len(self._shown)):
            place[labels == k] = np.arange((labels == k).sum())
        self._order = order[place < self._shown[labels]]

    def __len__(self) -> int:
        return -(-int(self._shown.sum()) // self._batch)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = self._order[i * self._batch : (i + 1) * self._batch]
        labels = self._labels[part]
        images = self._images.take(part)
        if self._contexts is not None:
            rng = np.random.default_rng([self._seed, self._epoch, i, _CONTEXT])
            images = self._contexts(images, part, rng)
        if self._augmentation is not None:
            rng = np.random.default_rng([self._seed, self._epoch, i, _AUGMENT])
            images = self._augmentation(images, labels, rng)
        return as_input(images), labels, self._weight[labels]


def _shown(labels: np.ndarray, classes: int, share: np.ndarray | None) -> np.ndarray:
    """How many beats of each class an epoch shows; of a class with beats at least one."""
    count = np.bincount(labels, minlength=classes)
    if share is None:
        return count
    shown = np.maximum(np.rint(count * share).astype(np.int64), 1)
    return np.asarray(np.minimum(shown, count))


def as_input(images: np.ndarray) -> np.ndarray:
    """Images, grey levels (n, rows, columns), as networks take them: float32, one channel."""
    return np.asarray(images[..., None], np.float32)
