"""`dvt serve`: an engine process and its front ends, until a signal or the engine's death."""

import logging
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.terminal import Device, Dtype, MaxBatchSize, MaxInflight, Model, errors_as_messages

if TYPE_CHECKING:
    import socket

    from service.settings import Settings

_logger = logging.getLogger(__name__)


def serve(
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    max_inflight: MaxInflight = None,
    max_batch_size: MaxBatchSize = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve a model over HTTP. Every setting is also a DVT_… environment variable."""
    # The server installs its own handler later. Until then SIGTERM ends the process at once: the default action is
    # ignored for the first process of a container, and an exception could interrupt an import.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with errors_as_messages():
        from service.http.listener import bind
        from service.settings import load_settings
        from weights.manifest import find, read_manifest

        settings = load_settings(
            model=model,
            http_host=host,
            http_port=port,
            device=device,
            dtype=dtype,
            max_inflight=max_inflight,
            max_batch_size=max_batch_size,
            log_level=log_level,
        )
        # These errors are reported before the slow imports.
        read_manifest(find(settings.model))
        raise typer.Exit(run(settings, bind(settings)))


def run(settings: "Settings", listener: "socket.socket") -> int:
    """Serve on a bound socket until a signal or the engine's death; returns the process's exit code.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here, or the configuration's store cannot be used.
    """
    from service.http.descriptors import make_room
    from service.replica.backend import build
    from service.replica.engine_process import Replica
    from service.replica.process import log_to_stderr
    from service.settings import kubernetes_variables, unknown_variables

    log_to_stderr(settings.log_level)
    for name in unknown_variables(os.environ):
        _logger.warning("%s is not a setting: is it misspelt?", name)
    if ignored := kubernetes_variables(os.environ):
        _logger.info("ignored, since Kubernetes sets them for a service of such a name: %s", ", ".join(ignored))
    make_room(settings.max_connections)
    backend = build(settings)
    code = Replica(backend, settings, listener).run()
    if backend.engine.running:
        # A warm-up or a hung device still computes; the interpreter's own end would crash under its thread.
        logging.shutdown()
        os._exit(code)
    return code
