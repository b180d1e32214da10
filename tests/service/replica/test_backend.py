"""From settings to what a replica computes with."""

import socket

import pytest
import torch
from tiny_model import save_tiny_model

from service.engine.engine import EngineState
from service.http.context import Context
from service.replica import backend as backend_module
from service.replica.backend import build, welcome
from service.settings import Settings, SettingsError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_build_takes_the_model_and_a_device_and_runs_nothing_yet(model):
    backend = build(Settings(model=model))

    assert backend.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert backend.operating_points.current.thresholds == (2.0, 2.0, 2.0)
    assert len(backend.engine.stage_macs) == 4
    assert backend.engine.state is EngineState.STARTING


def test_welcome_hands_the_settings_and_the_model_on(model):
    settings = Settings(model=model, max_inflight=3, max_image_pixels=77, max_body_bytes=88, api_key="k" * 16)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = Context.of(welcome(build(settings), settings), theirs, [0], 0)

    assert context.settings == settings
    assert (context.decoder.max_pixels, context.decoder.max_bytes) == (77, 88)
    assert context.operating_points.current.thresholds == (2.0, 2.0, 2.0)
    assert context.engine.state is EngineState.STARTING


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_build_dtype_that_is_set_is_not_measured(model, monkeypatch, dtype):
    monkeypatch.delattr(backend_module, "choose_dtype")
    assert build(Settings(model=model, dtype=dtype)).engine.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_build_dtype_auto_takes_what_was_measured(model, monkeypatch, dtype):
    asked = []

    def choose(cascade, **options):
        asked.append(options)
        return getattr(torch, dtype)

    monkeypatch.setattr(backend_module, "choose_dtype", choose)
    backend = build(Settings(model=model, dtype="auto", max_batch_size=7))
    assert backend.engine.dtype == dtype
    assert asked == [{"device": backend.device, "max_batch_size": 7}]


def test_build_torch_threads_are_set(model):
    before = torch.get_num_threads()
    try:
        build(Settings(model=model, torch_threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_build_device_that_is_not_there_is_refused_by_name(model, device):
    with pytest.raises(SettingsError, match=f"DVT_DEVICE: '{device}'"):
        build(Settings(model=model, device=device))


def test_build_thresholds_may_give_way_without_a_calibration_table_is_refused(model):
    with pytest.raises(SettingsError, match=r"DVT_SHED_ACCURACY_DROP: 0\.01 needs a calibration table, and tiny has"):
        build(Settings(model=model, shed_accuracy_drop=0.01))


@pytest.mark.parametrize(
    "wrong", [{"device": "abacus"}, {"config_store": "postgres://host"}, {"shed_accuracy_drop": 0.01}]
)
def test_build_wrong_setting_is_refused_before_precisions_are_measured(model, monkeypatch, wrong):
    monkeypatch.delattr(backend_module, "choose_dtype")

    with pytest.raises(SettingsError, match=f"DVT_{next(iter(wrong)).upper()}"):
        build(Settings(model=model, **wrong))


def test_build_thresholds_may_give_way_the_engine_gets_the_tables_ladder(monkeypatch):
    ladders = []

    class Engine(backend_module.Engine):
        def __init__(self, *args, ladder, **options):
            ladders.append(ladder)
            super().__init__(*args, ladder=ladder, **options)

    monkeypatch.setattr(backend_module, "Engine", Engine)
    for drop in (None, 0.01):
        thresholds = build(Settings(shed_accuracy_drop=drop)).model.manifest.thresholds

    assert ladders[0] is None
    assert ladders[1](1, thresholds)[-1] < thresholds  # solved before anybody asks
