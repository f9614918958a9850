"""Images of several requests, answered by one call of the network.

BentoML's own adaptive batching (`batchable`) waits for company: a lone client waited 60 ms for an
answer of 4. Here nobody waits. What arrived while the event loop was busy with the last batch makes
the next one, so that batches grow with the load and a lone image goes alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

# The event loop stands still meanwhile: some 5 ms.
_MOST = 16


class Batches:
    """Calls of one network, shared by the requests of one event loop."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], most: int = _MOST) -> None:
        self._predict, self._most = predict, most
        self._waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []

    async def predict(self, image: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (1, classes), of one image, uint8 (rows, columns)."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[np.ndarray] = loop.create_future()
        self._waiting.append((image, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        return await answer

    def _next(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        # Who has gone away meanwhile is not answered.
        batch = [(image, answer) for image, answer in batch if not answer.done()]
        if not batch:
            return
        try:
            rows = self._predict(np.stack([image for image, _ in batch]))
        except Exception as error:
            for _, answer in batch:
                answer.set_exception(error)
            return
        for i, (_, answer) in enumerate(batch):
            answer.set_result(rows[i : i + 1])
