"""What schemathesis cannot make up, and what a description cannot say; it loads this by `SCHEMATHESIS_HOOKS`."""

import json
from base64 import b64encode
from pathlib import Path
from struct import pack

import schemathesis
from hypothesis import strategies as st
from tiny_model import png

MODEL = {"name": "dvt-photos", "version": "1"}
IMAGES = [png(), (Path(__file__).parents[1] / "data" / "turtle.jpg").read_bytes()]

STAGES = {"0", "1", "2", "3", "0.0", "1.0", "2.0", "3.0"}

images = st.sampled_from(IMAGES)
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


@schemathesis.hook
def map_case(context, case):
    """Parameters and bodies whose parts belong together."""
    infer = case.path.endswith("/infer")
    if infer and case.media_type == "application/octet-stream" and case.body in IMAGES:
        case.headers["Inference-Header-Content-Length"], case.body = binary_tensor(case.body)
    asked = case.body.get("parameters") if isinstance(case.body, dict) else None
    stages_in_order(*(source for source in (case.query, asked) if isinstance(source, dict)))
    if isinstance(case.body, dict):
        within_reach(case.body.get("target"))
        inputs = case.body.get("inputs")
        for tensor in inputs if infer and isinstance(inputs, list) else ():
            whole(tensor)
    return case


def stages_in_order(*sources):
    """No later stage is to be the first than the last, wherever each is said."""
    given = [(source, source[name]) for name in ("min_stage", "max_stage") for source in sources if name in source]
    # As text in a query; out of range already, it is to stay so.
    stages = [int(float(value)) for _, value in given if str(value) in STAGES]
    if len(stages) == len(given) > 1 and max(stages) > min(stages):
        for source, _ in given:
            source.pop("min_stage", None)


def within_reach(target):
    """A target that the calibration table can meet, unless it makes no sense anyway."""
    limits = {"accuracy": (0, 0.7), "mean_macs": (1e8, 1e300), "fraction": (1, 1e300)}
    for name, (least, most) in limits.items() if isinstance(target, dict) else ():
        value = target.get(name)
        if type(value) in (int, float) and value > 0 and (name != "accuracy" or value <= 1):
            target[name] = min(max(value, least), most)


def whole(tensor):
    """A shape that is the data's, if it is a shape."""
    if isinstance(tensor, dict) and isinstance(tensor.get("data"), list):
        shape = tensor.get("shape")
        if isinstance(shape, list) and 1 <= len(shape) <= 2 and all(type(n) in (int, float) and n >= 1 for n in shape):
            tensor["shape"] = [len(tensor["data"])]


def binary_tensor(image):
    """The length of the JSON, and a whole body."""
    parameters = {"binary_data_size": 4 + len(image)}
    header = json.dumps({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": parameters}]})
    return str(len(header)), header.encode() + pack("<I", len(image)) + image
