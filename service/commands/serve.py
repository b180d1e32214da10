"""`dvt serve`: an engine process and its front ends, until a signal or the engine's death."""

import logging
import os
import socket

from service.http.descriptors import make_room
from service.replica.backend import build
from service.replica.engine_process import Replica
from service.replica.process import log_to_stderr
from service.settings import Settings, kubernetes_variables, unknown_variables

_logger = logging.getLogger(__name__)


def serve(settings: Settings, listener: socket.socket) -> int:
    """Serve until a signal or the engine's death; returns the process's exit code.

    Args:
        listener: bound to the address.

    Raises:
        ModelFormatError: the model cannot be used.
        SettingsError: the device does not exist here, or the configuration's store cannot be used.
    """
    log_to_stderr(settings.log_level)
    for name in unknown_variables(os.environ):
        _logger.warning("%s is not a setting: is it misspelt?", name)
    if ignored := kubernetes_variables(os.environ):
        _logger.info("ignored, since Kubernetes sets them for a service of such a name: %s", ", ".join(ignored))
    make_room(settings.max_connections)
    backend = build(settings)
    code = Replica(backend, settings, listener).run()
    if backend.engine.running:
        # A warm-up or a hung device; the interpreter's own end would crash under a thread that computes.
        logging.shutdown()
        os._exit(code)
    return code
