"""The walk of a request's images from bytes to outcomes: admission, decoding, and the engine."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass

from service.engine.operating import OperatingPoint
from service.engine.policy import Policy
from service.engine.task import Answer, Pixels
from service.errors import DeadlineExceededError, OverloadedError, ServiceError, TooLargeError
from service.http.context import Context
from service.link.permits import Permits


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The answer to one image, with the times outside the engine.

    Attributes:
        thresholds: those of its policy, one per exit but the last.
        decode_s: seconds from the request's admission to the pixels, including the wait for a thread.
        total_s: seconds from the request's admission to the answer.
    """

    answer: Answer
    thresholds: tuple[float, ...]
    decode_s: float
    total_s: float


_REFUSALS = {TooLargeError: "too_large", DeadlineExceededError: "deadline", OverloadedError: "full"}
_logger = logging.getLogger(__name__)

Encoded = bytes | ServiceError
"""An encoded image, or the error of an image that cannot be taken out of its request."""

Outcome = Walked | ServiceError
"""The answer to one image, or its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """One outcome per image, in the request's order, under one version of the configuration."""

    config_version: int
    total_s: float
    images: list[Outcome]


def require_room(context: Context) -> None:
    """Refuse a request before its body is read if no permit is left.

    Under overload, refusals must be cheap so that there is time for answers.

    Raises:
        OverloadedError: all permits are out.
    """
    try:
        context.engine.require_room()
    except OverloadedError:
        # The number of images is unknown; the request counts as one.
        context.metrics.images_presented(1)
        context.metrics.image_rejected("full")
        raise


async def classify_images(
    context: Context, images: Sequence[Encoded], make_policy: Callable[[OperatingPoint], Policy]
) -> Outcomes:
    """Admit and classify the images of one request.

    On cancellation, images that the engine does not have are dropped at once. The permit of an image that it has goes
    back when the engine has released the image, which takes up room until then.

    Raises:
        OverloadedError: there are not enough permits for all images.
        NotReadyError: the engine accepts no images now.
    """
    context.metrics.images_presented(len(images))
    permits = context.engine.admit(len(images))
    walk = _Walk(context, permits, make_policy(context.operating_points.current), len(images))
    outcomes = await walk.run(images)
    return Outcomes(config_version=walk.policy.config_version, total_s=walk.elapsed_s(), images=outcomes)


def require_answers(outcomes: Sequence[Outcome], name: str) -> list[Walked]:
    """All answers, for protocols in which one failed image makes the request fail.

    Args:
        name: of the list of images in the request; empty if there is none.

    Raises:
        ServiceError: the first error, with the image's place in the list.
    """
    walked: list[Walked] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, ServiceError):
            error = copy(outcome)  # several images may share the engine's error
            if name:
                error.args = (f"{name}[{index}]: {outcome}",)
            raise error
        walked.append(outcome)
    return walked


class _Walk:
    """The images of one admitted request. Owns their permits until the engine has them."""

    def __init__(self, context: Context, permits: Permits, policy: Policy, num_images: int) -> None:
        self.policy = policy
        self._context = context
        self._permits = permits
        self._undecided = num_images  # neither refused nor submitted
        self._started_at = time.perf_counter()

    async def run(self, images: Sequence[Encoded]) -> list[Outcome]:
        try:
            if len(images) == 1:
                return [await self._outcome(images[0])]
            async with asyncio.TaskGroup() as group:
                outcomes = [group.create_task(self._outcome(data)) for data in images]
            return [outcome.result() for outcome in outcomes]
        finally:
            if self._undecided:
                self._context.metrics.image_cancelled("decode", self._undecided)
                self._permits.release(self._undecided)

    async def _outcome(self, data: Encoded) -> Outcome:
        try:
            pixels = await self._decode(data)
            decode_s = self.elapsed_s()
            answer = await self._answer(pixels)
        except ServiceError as error:
            return error.with_traceback(None)  # its frames hold the image until the next garbage collection
        except Exception:
            # Our own fault; it must not affect the other images of the request.
            _logger.exception("an image failed unexpectedly")
            return ServiceError("an unexpected error; the log has it")
        return Walked(answer=answer, thresholds=self.policy.thresholds, decode_s=decode_s, total_s=self.elapsed_s())

    async def _decode(self, data: Encoded) -> Pixels:
        try:
            if isinstance(data, ServiceError):
                raise data
            return await self._context.lanes.decode(data, self.policy.deadline)
        except Exception as error:
            self._undecided -= 1
            self._permits.release()
            self._context.metrics.image_rejected(_REFUSALS.get(type(error), "undecodable"))
            raise

    async def _answer(self, pixels: Pixels) -> Answer:
        self._undecided -= 1  # from here on the engine counts it, even if it refuses it
        try:
            task = self._context.engine.submit(pixels, self.policy)
        except Exception:
            self._permits.release()
            raise
        ended = asyncio.Event()

        def end(_: Future[Answer]) -> None:
            self._permits.release()
            ended.set()

        task.future.add_done_callback(end)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            self._context.engine.cancel(task)
            raise
        return task.future.result()

    def elapsed_s(self) -> float:
        """Seconds since the request was admitted."""
        return time.perf_counter() - self._started_at
