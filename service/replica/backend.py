"""The parts of a replica that exist once, however many front ends it has: model, engine, configuration, metrics."""

import logging
from dataclasses import dataclass
from itertools import accumulate

import torch

from service.configuration.adaptation import Adaptation
from service.configuration.forecast import Forecast
from service.configuration.opening import open_store
from service.configuration.operating_points import OperatingPoints
from service.configuration.shedding import ThresholdLadder
from service.configuration.store import Store
from service.engine.cores import usable_cores
from service.engine.engine import Engine
from service.engine.interfaces import Runner
from service.engine.preparation import choose_dtype
from service.engine.runner import TorchRunner
from service.link.messages import Welcome
from service.metrics import Metrics
from service.settings import SECRETS, Settings, SettingsError
from weights.calibration.table import CalibrationTable
from weights.manifest import Manifest, find, read_manifest
from weights.store import StoredModel, load

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Everything of a replica but its front ends.

    Attributes:
        device: where the stages run; never `auto`.
    """

    model: StoredModel
    engine: Engine
    operating_points: OperatingPoints
    metrics: Metrics
    device: str


def build(settings: Settings) -> Backend:
    """Load the model and build the engine around it, without starting it.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here, the configuration's store cannot be used, or load shedding is on
            and the model has no calibration table.
    """
    # All settings are checked before `build_runner`, which may measure for minutes.
    resolve_device(settings.device)
    store = store_of(settings, read_manifest(find(settings.model)))
    model = load(settings.model)
    _table(model, settings.shed_accuracy_drop)
    if (warning := model.manifest.provenance.get("warning")) is not None:
        _logger.warning("%s: %s", model.manifest.name, warning)
    return around(build_runner(model, settings), model, settings, store)


def around(runner: Runner, model: StoredModel, settings: Settings, store: Store) -> Backend:
    """A backend that computes with this runner.

    Raises:
        SettingsError: load shedding is on and the model has no calibration table.
    """
    metrics = Metrics(len(runner.stage_macs), runner.baseline_macs)
    engine = Engine(
        runner,
        observer=metrics,
        max_inflight=settings.max_inflight,
        max_batch_size=settings.max_batch_size,
        ladder=_ladder(settings.shed_accuracy_drop, model, tuple(accumulate(runner.stage_macs))),
    )
    forecast = Forecast(model.calibration, runner.stage_macs, runner.baseline_macs)
    adaptation = Adaptation(calibration=model.calibration_digest, solve=forecast.solve)
    operating_points = OperatingPoints(model.manifest.thresholds, store, adaptation)
    metrics.watch(engine, operating_points)
    return Backend(
        model=model,
        engine=engine,
        operating_points=operating_points,
        metrics=metrics,
        device=resolve_device(settings.device),
    )


def welcome(backend: Backend, settings: Settings) -> Welcome:
    """The first message to a front end."""
    values = settings.model_dump(mode="json", exclude={*SECRETS, *(f"{name}_file" for name in SECRETS)})
    secrets = {"admin_key": settings.admin_key, "api_key": settings.api_key}
    engine, model = backend.engine, backend.model
    return Welcome(
        settings=values | {name: key.get_secret_value() for name, key in secrets.items() if key is not None},
        manifest=model.manifest.model_dump_json().encode(),
        calibration=None if model.calibration is None else model.calibration.to_bytes(),
        device=backend.device,
        dtype=engine.dtype,
        stage_macs=engine.stage_macs,
        baseline_macs=engine.baseline_macs,
        configuration=backend.operating_points.history,
        state=engine.state,
    )


def store_of(settings: Settings, manifest: Manifest) -> Store:
    """The store of this model's configuration.

    Raises:
        SettingsError: it cannot be used.
    """
    setting = None if settings.config_store is None else settings.config_store.get_secret_value()
    return open_store(setting, model=manifest.name, num_stages=manifest.architecture.num_stages)


def resolve_device(name: str) -> str:
    """The device of this name; for `auto`, a GPU if there is one.

    Raises:
        SettingsError: it does not exist here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    # RuntimeError for an unknown name, AssertionError from a torch without CUDA.
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
        dtype = getattr(torch, settings.dtype)
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


def _table(stored: StoredModel, accuracy_drop: float | None) -> CalibrationTable | None:
    if accuracy_drop is not None and stored.calibration is None:
        raise SettingsError(
            f"DVT_SHED_ACCURACY_DROP: {accuracy_drop} needs a calibration table, and {stored.manifest.name} has none"
        )
    return stored.calibration


def _ladder(accuracy_drop: float | None, stored: StoredModel, walk_macs: tuple[int, ...]) -> ThresholdLadder | None:
    table = _table(stored, accuracy_drop)
    if accuracy_drop is None or table is None:
        return None
    ladder = ThresholdLadder(table, walk_macs, accuracy_drop)
    ladder.prepare(stored.manifest.thresholds)  # now, because under load there is no time for it
    return ladder
