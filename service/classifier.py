"""`Classifier`: the cascade in this process, with the server's engine, decoder and exit rule, without HTTP."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from itertools import count
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack, cast, get_args, overload

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from service.classified_image import ClassifiedImage
from service.configuration.forecast import Forecast
from service.engine.engine import Engine
from service.engine.interfaces import Observer
from service.engine.operating import Target, TargetKind, parse_thresholds
from service.engine.policy import Policy
from service.engine.task import Pixels, Task
from service.errors import InvalidParameterError, ServiceError, UndecodableImageError
from service.images.decoder import ImageDecoder
from service.replica.backend import build_runner
from service.settings import load_settings
from weights.store import load

ImageLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8] | Tensor
"""One image: a path, a file's bytes, a PIL image, an array [H, W, 3] of uint8, or a tensor [3, H, W] of uint8."""

_START_TIMEOUT_S = 600.0
_STOP_TIMEOUT_S = 60.0
_DEFAULT_TOP_K = 5


class Options(TypedDict, total=False):
    """What a call may ask for, with the names of the HTTP API; everything may be left out.

    Attributes:
        thresholds: confidence at which an image leaves: one number for all exits, or one per exit but the last; 0 is
            always, above 1 is never; the model's own by default.
        target: in place of thresholds, one of `mean_macs`, `fraction`, `accuracy` and `accuracy_drop`, such as
            `{"fraction": 0.22}`. It is solved with the calibration table.
        min_stage: no exit before this stage.
        max_stage: the last stage allowed to run.
        max_macs: multiply-accumulates one image may cost.
        deadline_ms: milliseconds for each image once it is decoded; then the best answer so far is given.
        top_k: classes to return; 5, or all there are, by default.
        trace: whether to return every stage's answer.
    """

    thresholds: float | Sequence[float]
    target: Mapping[str, float]
    min_stage: int
    max_stage: int
    max_macs: int
    deadline_ms: float
    top_k: int
    trace: bool


class Classifier:
    """Classifies images in this process; the images of a call, and of several threads, share batches stage by stage.

    Holds the model and some threads until `close`, or the end of a `with` block.

    Args:
        model: a shipped model's name, or a model folder; the default of `dvt serve` if left out.
        device: auto, cpu, cuda, cuda:1, mps …
        dtype: auto, float32 or bfloat16.
        max_batch_size: the most images a stage runs at once.
        max_inflight: the most images in memory at a time.

    Raises:
        ModelFormatError: the model cannot be used.
        NotReadyError: the engine did not get ready.
        SettingsError: the device does not exist here, or another setting is wrong.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_batch_size: int | None = None,
        max_inflight: int | None = None,
    ) -> None:
        settings = load_settings(
            model=None if model is None else os.fspath(model),
            device=device,
            dtype=dtype,
            max_batch_size=max_batch_size,
            max_inflight=max_inflight,
        )
        stored = load(settings.model)
        runner = build_runner(stored, settings)
        self._manifest, self._macs, self._baseline_macs = stored.manifest, runner.stage_macs, runner.baseline_macs
        self._forecast = Forecast(stored.calibration, runner.stage_macs, runner.baseline_macs)
        self._decoder = ImageDecoder(
            stored.manifest.preprocessing, max_bytes=settings.max_body_bytes, max_pixels=settings.max_image_pixels
        )
        self._max_inflight = settings.max_inflight
        self._room = threading.BoundedSemaphore(settings.max_inflight)
        self._pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._engine = Engine(
            runner, observer=Observer(), max_inflight=settings.max_inflight, max_batch_size=settings.max_batch_size
        )
        self._engine.start()
        try:
            self._engine.wait_ready(_START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        return self._manifest.class_names

    @overload
    def classify(self, images: list[Any] | tuple[Any, ...], **options: Unpack[Options]) -> list[ClassifiedImage]: ...

    @overload
    def classify(self, images: ImageLike, **options: Unpack[Options]) -> ClassifiedImage: ...

    def classify(
        self, images: ImageLike | list[Any] | tuple[Any, ...], **options: Unpack[Options]
    ) -> ClassifiedImage | list[ClassifiedImage]:
        """Classify one image, or a list of them; the answers are in the order of the images.

        Raises:
            InvalidParameterError: an option does not fit the model, or an array is not an image.
            TooLargeError: an image has more bytes or pixels than allowed.
            UndecodableImageError: an image cannot be read. In a list, the text names its place.
        """
        if isinstance(images, list | tuple):
            return list(self.stream(images, **options))
        policy, deadline_s = self._policy(**options)
        return self._classification(self._begin(images, policy, deadline_s))

    def stream(self, images: Iterable[ImageLike], **options: Unpack[Options]) -> Iterator[ClassifiedImage]:
        """Classify any number of images; the answers come in their order.

        At most `max_inflight` of the images are in memory. An error ends the stream at the image that raised it.

        Raises:
            As `classify`.
        """
        policy, deadline_s = self._policy(**options)
        walks, place = deque[Future[Task]](), count()
        try:
            for image in images:
                if len(walks) == self._max_inflight:
                    yield self._answer(walks.popleft(), next(place))
                walks.append(self._pool.submit(self._begin, image, policy, deadline_s))
            while walks:
                yield self._answer(walks.popleft(), next(place))
        finally:
            for walk in walks:
                walk.cancel()
                walk.add_done_callback(self._give_up)

    def close(self) -> None:
        """Stop the engine; images in it end with `NotReadyError`."""
        self._engine.stop(drain=False, timeout_s=_STOP_TIMEOUT_S)
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _policy(self, **options: Unpack[Options]) -> tuple[Policy, float | None]:
        """The exit rule of a call, and the seconds that each of its images has.

        Raises:
            InvalidParameterError: an option is unknown, or does not fit the model.
        """
        if unknown := options.keys() - Options.__annotations__.keys():
            known = ", ".join(Options.__annotations__)
            raise InvalidParameterError(f"unknown option {min(unknown)!r}; there are {known}")
        num_classes, deadline_ms = len(self.class_names), options.get("deadline_ms")
        top_k = options.get("top_k", min(_DEFAULT_TOP_K, num_classes))
        if top_k > num_classes:
            raise InvalidParameterError(f"top_k must be at most {num_classes}, the classes there are, got {top_k}")
        if deadline_ms is not None and not deadline_ms > 0:
            raise InvalidParameterError(f"deadline_ms must be positive, got {deadline_ms}")
        thresholds = self._thresholds(options.get("thresholds"), options.get("target"))
        policy = Policy(
            thresholds=thresholds,
            config_version=1,
            min_stage=options.get("min_stage", 0),
            max_stage=options.get("max_stage", len(thresholds)),
            max_macs=options.get("max_macs"),
            top_k=top_k,
            trace=options.get("trace", False),
        )
        policy.check(self._macs)
        return policy, None if deadline_ms is None else deadline_ms / 1000

    def _thresholds(
        self, thresholds: float | Sequence[float] | None, target: Mapping[str, float] | None
    ) -> tuple[float, ...]:
        if target is None:
            own = self._manifest.thresholds
            return own if thresholds is None else parse_thresholds(thresholds, self._manifest.architecture.num_stages)
        if thresholds is not None:
            raise InvalidParameterError("thresholds and a target exclude each other")
        kinds = get_args(TargetKind)
        if len(target) != 1 or not target.keys() <= set(kinds):
            raise InvalidParameterError(f"target must be one of {', '.join(kinds)} with a number, got {target!r}")
        ((kind, value),) = target.items()
        return self._forecast.solve(Target(cast(TargetKind, kind), value))

    def _begin(self, image: ImageLike, policy: Policy, deadline_s: float | None) -> Task:
        """Decode an image, wait for room in the engine, and start its walk."""
        pixels = self._pixels(image)
        self._room.acquire()
        try:
            if deadline_s is not None:
                policy = replace(policy, deadline=time.monotonic() + deadline_s)
            task = self._engine.submit(pixels, policy)
        except BaseException:
            self._room.release()
            raise
        task.future.add_done_callback(lambda _: self._room.release())
        return task

    def _answer(self, walk: Future[Task], place: int) -> ClassifiedImage:
        try:
            return self._classification(walk.result())
        except ServiceError as error:
            named = copy(error)  # the engine's own may be that of several images
            named.args = (f"images[{place}]: {error}",)
            raise named from error

    def _classification(self, task: Task) -> ClassifiedImage:
        answer = task.future.result()
        return ClassifiedImage.of(answer, task.policy.thresholds, self._manifest, self._baseline_macs)

    def _give_up(self, walk: Future[Task]) -> None:
        if not walk.cancelled() and walk.exception() is None:
            self._engine.cancel(walk.result())

    def _pixels(self, image: ImageLike) -> Pixels:
        if isinstance(image, bytes):
            return self._decoder.decode(image)
        if isinstance(image, str | os.PathLike):
            try:
                with open(image, "rb") as file:
                    # One byte over the limit is enough for the decoder to refuse it.
                    return self._decoder.decode(file.read(self._decoder.max_bytes + 1))
            except OSError as error:
                raise UndecodableImageError(f"{os.fspath(image)} cannot be read: {error.strerror}") from error
        if isinstance(image, Tensor):
            image = image.detach().cpu().movedim(0, -1).numpy() if image.ndim == 3 else image.detach().cpu().numpy()
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise InvalidParameterError(
                    f"an array must be uint8 [H, W, 3], a tensor uint8 [3, H, W]; got {image.dtype} {[*image.shape]} "
                    "(in the order of an array)"
                )
            image = Image.fromarray(np.ascontiguousarray(image))
        return self._decoder.preprocess(image)
