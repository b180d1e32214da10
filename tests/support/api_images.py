"""What schemathesis cannot make up: images, and the name of the model; it loads this by `SCHEMATHESIS_HOOKS`."""

from base64 import b64encode
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from tiny_model import black_png

MODEL = {"name": "dvt-cifar10", "version": "1"}
_ROOT = Path(__file__).parents[1]

images = st.sampled_from([black_png(), (_ROOT / "data" / "airplane.jpg").read_bytes()])
for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, images)
schemathesis.openapi.format("binary", images)
schemathesis.openapi.format("byte", images.map(lambda image: b64encode(image).decode()))


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Most of the time the model there is; any other is 404."""
    if path_parameters and len(str(path_parameters)) % 5:
        return {name: MODEL[name] for name in path_parameters}
    return path_parameters
