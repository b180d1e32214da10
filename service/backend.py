"""The parts of a replica that exist once, whatever speaks HTTP for them: model, engine, configuration, metrics."""

import logging
from dataclasses import dataclass
from itertools import accumulate

import torch

from service.configuration.adaptation import Adaptation
from service.configuration.opening import open_store
from service.configuration.operating_points import OperatingPoints
from service.cores import usable_cores
from service.engine.engine import Engine
from service.engine.interfaces import Runner
from service.engine.preparation import choose_dtype
from service.engine.runner import TorchRunner
from service.forecast import Forecast
from service.metrics import Metrics
from service.settings import Settings, SettingsError
from service.shedding import ThresholdLadder
from weights.store import StoredModel, load

_logger = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What a replica computes with.

    Attributes:
        device: where the stages really run.
    """

    model: StoredModel
    engine: Engine
    operating_points: OperatingPoints
    metrics: Metrics
    device: str


def build(settings: Settings) -> Backend:
    """Load the model and build the engine around it; nothing runs yet.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here, or thresholds may give way but nothing says how far.
    """
    model = load(settings.model)
    manifest = model.manifest
    if "warning" in manifest.provenance:
        _logger.warning("%s: %s", manifest.name, manifest.provenance["warning"])
    return around(build_runner(model, settings), model, settings)


def around(runner: Runner, model: StoredModel, settings: Settings) -> Backend:
    """A backend that computes with this runner.

    Raises:
        SettingsError: thresholds may give way but nothing says how far.
    """
    manifest = model.manifest
    metrics = Metrics(len(runner.stage_macs), runner.baseline_macs)
    engine = Engine(
        runner,
        observer=metrics,
        max_inflight=settings.max_inflight,
        max_batch_size=settings.max_batch_size,
        ladder=_ladder(settings.shed_accuracy_drop, model, tuple(accumulate(runner.stage_macs))),
    )
    setting = settings.config_store
    store = open_store(
        None if setting is None else setting.get_secret_value(), model=manifest.name, num_stages=len(runner.stage_macs)
    )
    forecast = Forecast(model.calibration, runner.stage_macs, runner.baseline_macs)
    adaptation = Adaptation(calibration=model.calibration_digest, solve=forecast.solve)
    operating_points = OperatingPoints(manifest.thresholds, store, adaptation)
    metrics.watch(
        queue_depths=engine.queue_depths,
        thresholds=lambda: operating_points.current.thresholds,
        config_version=lambda: operating_points.current.version,
        config_stored=lambda: operating_points.stored,
        load_level=lambda: engine.load_level,
    )
    return Backend(
        model=model,
        engine=engine,
        operating_points=operating_points,
        metrics=metrics,
        device=resolve_device(settings.device),
    )


def resolve_device(name: str) -> str:
    """The device that `auto`, or a name, stands for.

    Raises:
        SettingsError: when it does not exist here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    # torch raises RuntimeError for a name it does not know, AssertionError where it was built without CUDA.
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"DVT_DEVICE: {name!r} cannot be used here; known are auto, cpu and cuda[:N]") from error
    return name


def build_runner(stored: StoredModel, settings: Settings) -> TorchRunner:
    """The runner of a model, with the device, precision and sizes of the settings.

    Raises:
        SettingsError: the device does not exist here.
    """
    torch.set_num_threads(settings.torch_threads or max(1, usable_cores() - 1))
    device, preprocessing = resolve_device(settings.device), stored.manifest.preprocessing
    if settings.dtype == "auto":
        dtype = choose_dtype(stored.cascade, device=device, max_batch_size=settings.max_batch_size)
    else:
        dtype = _DTYPES[settings.dtype]
    return TorchRunner(
        stored.cascade,
        mean=preprocessing.mean,
        std=preprocessing.std,
        temperatures=stored.manifest.temperatures,
        max_batch_size=settings.max_batch_size,
        capacity=settings.max_inflight,
        device=device,
        dtype=dtype,
        cuda_graphs=settings.cuda_graphs,
    )


def _ladder(accuracy_drop: float | None, stored: StoredModel, walk_macs: tuple[int, ...]) -> ThresholdLadder | None:
    if accuracy_drop is None:
        return None
    if stored.calibration is None:
        raise SettingsError(
            f"DVT_SHED_ACCURACY_DROP: {accuracy_drop} needs a calibration table, and {stored.manifest.name} has none"
        )
    ladder = ThresholdLadder(stored.calibration, walk_macs, accuracy_drop)
    ladder(1, stored.manifest.thresholds)  # solved now rather than under the first load
    return ladder
