"""Decodes images in lanes by size, so that a large image never delays smaller ones."""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor

from service.engine.task import Pixels
from service.errors import DeadlineExceededError, OverloadedError
from service.images.decoder import ImageDecoder

_PASSED = "the deadline passed before the image was decoded"

MAX_LARGE = 16
"""The most large images decoded or waiting; more are refused, because they would hold all permits."""


class Lanes:
    """Three lanes: small images on the event loop, ordinary ones in the pool, large ones one by one on a thread.

    So an image delays only images of about its size, and only one large image is in memory at a time.
    """

    def __init__(self, decoder: ImageDecoder, pool: ThreadPoolExecutor) -> None:
        self._decoder = decoder
        self._pool = pool
        self._alone = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        self._large: set[Future[Pixels]] = set()

    async def decode(self, data: bytes, deadline: float | None) -> Pixels:
        """Decode one image. If the request ends early, a decoding in progress still runs to its end.

        Args:
            deadline: of the request, a reading of `time.monotonic`; None without one.

        Raises:
            DeadlineExceededError: the deadline passed before the image was decoded.
            OverloadedError: the image is large, and too many large images wait already.
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
        """Start no more images; a decoding in progress runs to its end."""
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
        # Removed when the decoding ends, also if the request ended earlier.
        future.add_done_callback(self._large.discard)
        return await asyncio.wrap_future(future)
