import socket

import msgspec
import numpy as np
from manifests import manifest_of

from models.config import CascadeConfig
from service.engine.engine import EngineState
from service.http.context import Context
from service.link.messages import ToFrontEnd, Welcome
from weights.calibration.table import CalibrationTable


def test_context_of_what_the_engine_says_is_its_model_and_its_table():
    table = CalibrationTable(np.array([[0.2, 0.9], [0.6, 0.8]], np.float32), np.array([[False, True], [True, True]]))
    manifest = manifest_of(
        CascadeConfig(image_size=28, num_classes=2, embed_dim=12, depth=1, num_heads=1, grids=(2, 4))
    )
    welcome = Welcome(
        settings={},
        manifest=manifest.model_dump_json().encode(),
        calibration=table.to_bytes(),
        device="cpu",
        dtype="float32",
        stage_macs=(1, 2),
        baseline_macs=4,
        configuration=(),
        state=EngineState.READY,
    )
    received = msgspec.msgpack.Decoder(ToFrontEnd).decode(msgspec.msgpack.encode(welcome))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = Context.of(received, theirs, [0], 0)

    assert context.manifest == manifest
    assert context.forecast.expected((0.5,)).accuracy == 1.0
    assert context.forecast.exit_accuracies == (0.5, 1.0)
