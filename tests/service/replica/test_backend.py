"""From settings to what a replica computes with."""

import socket

import pytest
import torch
from calibrated import save_calibrated
from tiny_model import save_tiny_model

from service.engine.engine import EngineState
from service.http.context import Context
from service.replica import backend as backend_module
from service.replica.backend import build, welcome
from service.settings import Settings, SettingsError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_build_takes_the_model_and_the_settings_and_runs_nothing_yet(model):
    before = torch.get_num_threads()
    try:
        backend = build(Settings(model=model, dtype="float32", torch_threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)

    assert backend.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert backend.operating_points.current.thresholds == (2.0, 2.0, 2.0)
    assert len(backend.engine.stage_macs) == 4
    assert backend.engine.state is EngineState.STARTING


def test_welcome_hands_the_settings_and_the_model_on(model):
    limits = {"max_inflight": 3, "max_image_pixels": 77, "max_body_bytes": 88}
    settings = Settings(model=model, dtype="float32", api_key="k" * 16, **limits)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = Context.of(welcome(build(settings), settings), theirs, [0], 0)

    assert context.settings == settings
    assert (context.decoder.max_pixels, context.decoder.max_bytes) == (77, 88)
    assert context.operating_points.current.thresholds == (2.0, 2.0, 2.0)
    assert context.engine.state is EngineState.STARTING


@pytest.mark.parametrize(("setting", "dtype"), [("bfloat16", "bfloat16"), ("float32", "float32"), ("auto", "bfloat16")])
def test_build_dtype_is_measured_only_if_it_is_not_set(model, monkeypatch, setting, dtype):
    asked = []

    def choose(cascade, **options):
        asked.append(options)
        return torch.bfloat16

    monkeypatch.setattr(backend_module, "choose_dtype", choose)
    backend = build(Settings(model=model, dtype=setting, max_batch_size=7))
    assert backend.engine.dtype == dtype
    assert asked == ([{"device": backend.device, "max_batch_size": 7}] if setting == "auto" else [])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"device": "abacus"}, "DVT_DEVICE: 'abacus'"),
        ({"device": "cuda:99"}, "DVT_DEVICE: 'cuda:99'"),
        ({"config_store": "postgres://host"}, "DVT_CONFIG_STORE"),
        ({"shed_accuracy_drop": 0.01}, r"DVT_SHED_ACCURACY_DROP: 0\.01 needs a calibration table, and tiny has none"),
    ],
)
def test_build_wrong_setting_is_refused_by_name_before_precisions_are_measured(model, monkeypatch, wrong, text):
    monkeypatch.delattr(backend_module, "choose_dtype")

    with pytest.raises(SettingsError, match=text):
        build(Settings(model=model, **wrong))


def test_build_thresholds_may_give_way_the_engine_gets_the_tables_ladder(monkeypatch, tmp_path):
    ladders = []

    class Engine(backend_module.Engine):
        def __init__(self, *args, ladder, **options):
            ladders.append(ladder)
            super().__init__(*args, ladder=ladder, **options)

    monkeypatch.setattr(backend_module, "Engine", Engine)
    model = str(save_calibrated(tmp_path / "tiny"))
    for drop in (None, 0.5):
        thresholds = build(Settings(model=model, dtype="float32", shed_accuracy_drop=drop)).model.manifest.thresholds

    assert ladders[0] is None
    assert ladders[1](1, thresholds)[-1] < thresholds  # solved before anybody asks


def test_build_model_of_doubtful_origin_is_logged(tmp_path, caplog):
    model = save_tiny_model(tmp_path / "tiny", provenance={"warning": "trained on noise"})
    build(Settings(model=model, dtype="float32"))

    assert "tiny: trained on noise" in caplog.messages
