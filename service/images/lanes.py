"""Where an image is decoded, and how long its request waits for it: no image holds up what is smaller."""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor

from service.engine.task import Pixels
from service.errors import DeadlineExceededError, OverloadedError
from service.images.decoder import ImageDecoder

_PASSED = "the deadline passed before the image was decoded"

MAX_LARGE = 16
"""Images decoded alone, or waiting for it; beyond it they are refused, or they would take everybody's permits."""


class Lanes:
    """Three lanes: small images in place, ordinary ones in the pool, large ones one after the other.

    So an image takes the time of another only if that is about as large, and memory for large ones is needed once.
    """

    def __init__(self, decoder: ImageDecoder, pool: ThreadPoolExecutor) -> None:
        self._decoder = decoder
        self._pool = pool
        self._alone = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        self._large: set[Future[Pixels]] = set()

    async def decode(self, data: bytes, deadline: float | None) -> Pixels:
        """Decode one image; its thread finishes it also when the caller has given it up.

        Args:
            deadline: of its request, a reading of `time.monotonic`; None without one.

        Raises:
            DeadlineExceededError: it passed before there were pixels.
            OverloadedError: it is large, and too many large ones wait already.
            TooLargeError: as `ImageDecoder.decode`.
            UndecodableImageError: as `ImageDecoder.decode`.
        """
        timeout_s = None if deadline is None else deadline - time.monotonic()
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceededError(_PASSED)
        if (small := self._decoder.decode_small(data)) is not None:
            return small
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                ordinary = await loop.run_in_executor(self._pool, self._decoder.decode_ordinary, data)
                return ordinary if ordinary is not None else await self._decode_alone(data)
        except TimeoutError:
            raise DeadlineExceededError(_PASSED) from None

    def shutdown(self) -> None:
        """Begin no other image; one in progress is finished for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._alone.shutdown(wait=False, cancel_futures=True)

    @property
    def has_room(self) -> bool:
        """Whether one more large image may wait."""
        return len(self._large) < MAX_LARGE

    async def _decode_alone(self, data: bytes) -> Pixels:
        if not self.has_room:
            raise OverloadedError(f"{MAX_LARGE} large images wait to be decoded already")
        future = self._alone.submit(self._decoder.decode, data)
        self._large.add(future)
        # Not before it has ended: one that was given up still takes its time.
        future.add_done_callback(self._large.discard)
        return await asyncio.wrap_future(future)
