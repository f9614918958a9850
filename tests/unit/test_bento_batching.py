"""Requests of one moment share a call of the network; nobody waits, and nobody gets another's."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

import ecgbeats.records  # noqa: F401  # before `bento`, which does without the WFDB package
from bento.batching import Batches
from bento.tuning import at_once
from tests.support.hostile_files import small_bombs

pytestmark = pytest.mark.unit


def image_of(value: int) -> np.ndarray:
    return np.full((2, 2), value, np.uint8)


def predict(images: np.ndarray) -> np.ndarray:
    """A row that names its image."""
    return images[:, 0, :1].astype(np.float32)


async def asked(batches: Batches, values: range) -> list[float]:
    rows = await asyncio.gather(*(batches.predict(image_of(value)) for value in values))
    return [float(row[0, 0]) for row in rows]


def test_everybody_gets_the_answer_to_their_own_image_and_no_batch_is_too_large() -> None:
    sizes: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return predict(images)

    async def main() -> None:
        batches = Batches(counted, most=4)
        assert await asked(batches, range(10)) == [*map(float, range(10))]
        assert await asked(batches, range(1)) == [0.0]

    asyncio.run(main())
    assert sizes == [4, 4, 2, 1]


def test_who_goes_away_is_left_out_and_the_others_are_answered() -> None:
    async def main() -> None:
        batches = Batches(predict)
        tasks = [asyncio.create_task(batches.predict(image_of(value))) for value in (1, 2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert float((await tasks[1])[0, 0]) == 2.0
        assert tasks[0].cancelled()

    asyncio.run(main())


def test_a_failing_network_fails_each_of_the_batch_and_no_later_one() -> None:
    broken = [True]

    def breaks_once(images: np.ndarray) -> np.ndarray:
        if broken.pop() if broken else False:
            raise RuntimeError("no memory")
        return predict(images)

    async def main() -> None:
        batches = Batches(breaks_once)
        failed = await asyncio.gather(
            *(batches.predict(image_of(value)) for value in (1, 2)), return_exceptions=True
        )
        assert [str(error) for error in failed] == ["no memory"] * 2
        assert await asked(batches, range(3, 4)) == [3.0]

    asyncio.run(main())


def encoded(size: tuple[int, int], format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("files", "at"),
    [
        ([encoded((64, 72))], True),
        ([encoded((64, 72))] * 2, False),
        ([encoded((2000, 1000))], False),  # 2 kB of file, 2 million pixels
        ([encoded((64, 72), "JPEG")], False),
        ([b"\x89PNG\r\n\x1a\n"], False),
        ([b""], False),
        ([], False),
        *(([bomb], False) for bomb in small_bombs()),
    ],
)
def test_only_one_small_png_is_answered_on_the_event_loop(files: list[bytes], at: bool) -> None:
    assert at_once(files) is at
