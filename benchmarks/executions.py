"""Compares ways to execute the deepest stage on a CPU: eager, compiled, traced, ONNX Runtime, OpenVINO.

    python benchmarks/executions.py [--model dvt-cifar10] [--batches 1,8,32] [--threads 2] [--only NAME] [--out FILE]

All executions get the same tensors and take turns; the table shows the median of the rounds. The share of the machine's
rate is against one large matrix product in the same type. `beside Python` is how much longer a call takes while another
thread of the process runs plain Python, as HTTP and decoding do: an execution that releases the interpreter's lock
for its whole duration waits for it once; one that calls kernel by kernel may wait each time. What is not installed is
skipped: ONNX Runtime needs `pip install onnxruntime onnx onnxscript`, OpenVINO `pip install openvino`, compiling a C++
compiler.
"""

import copy
import json
import logging
import platform
import shutil
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from models import macs
from models.cascade import Cascade
from models.host_memory import keep_freed_memory
from models.reuse import ReuseState
from weights import load

Inputs = tuple[Tensor, ...]
Run = Callable[[], Any]
BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32


class SkippedError(Exception):
    """An execution that cannot run here; the text says what it needs."""


class LastStage(nn.Module):
    """The deepest stage as a function of tensors only, as exporters require."""

    def __init__(self, cascade: Cascade, dtype: torch.dtype) -> None:
        super().__init__()
        cascade = copy.deepcopy(cascade).eval().requires_grad_(False)
        cascade.fold_batch_norms()
        self.stage = cascade.stages[-1].to(dtype).to(memory_format=torch.channels_last)
        self.eval()

    def forward(self, source: Tensor, tokens: Tensor, relations: Tensor) -> Tensor:
        """Shape: [B, C, side, side], [B, M, D], [B, R, M, M] -> [B, K]."""
        logits: Tensor = self.stage(source, ReuseState(tokens=tokens, relations=relations)).logits
        return logits


@torch.inference_mode()
def stage_inputs(cascade: Cascade, batch: int) -> Inputs:
    """The inputs of the last stage after the others have run on random images.

    Raises:
        SkippedError: when the cascade has not all of a stem, feature reuse and relation reuse.
    """
    config = cascade.config
    if cascade.stem is None or config.feature_reuse is None or config.relation_reuse is None:
        raise SkippedError("this comparison is written for cascades with a stem and both kinds of reuse")
    images = torch.randn(batch, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(0))
    state = None
    for stage in range(config.num_stages - 1):
        state = cascade.eval().forward_stage(stage, images, state).state
    assert state is not None
    assert state.feature_map is not None
    assert state.tokens is not None
    assert state.relations is not None
    return state.feature_map.contiguous(memory_format=torch.channels_last), state.tokens, state.relations


def _cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    return tuple(value.to(dtype) for value in inputs)


def eager(cascade: Cascade, inputs: Inputs, dtype: torch.dtype) -> Run:
    """The execution that the service uses."""
    module, values = LastStage(cascade, dtype), _cast(inputs, dtype)
    return lambda: module(*values)


def traced(cascade: Cascade, inputs: Inputs, dtype: torch.dtype) -> Run:
    """TorchScript, traced and frozen: no Python between the operations."""
    module, values = LastStage(cascade, dtype), _cast(inputs, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.freeze(torch.jit.trace(module, values))
    return lambda: script(*values)


def compiled(cascade: Cascade, inputs: Inputs, dtype: torch.dtype) -> Run:
    """`torch.compile` with weights as constants; the first call takes tens of seconds."""
    if not any(shutil.which(name) for name in ("g++", "clang++")):
        raise SkippedError("torch.compile needs a C++ compiler, such as g++")
    import torch._inductor.config as inductor

    inductor.freezing = True
    module, values = LastStage(cascade, dtype), _cast(inputs, dtype)
    function = torch.compile(module, dynamic=False)
    return lambda: function(*values)


def onnx_runtime(cascade: Cascade, inputs: Inputs, threads: int) -> Run:
    """ONNX Runtime in float32: its CPU kernels know no bfloat16."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SkippedError("needs pip install onnxruntime onnx onnxscript") from error
    module, values = LastStage(cascade, FLOAT32), tuple(value.contiguous() for value in inputs)
    names = ["source", "tokens", "relations"]
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "stage.onnx"
        torch.onnx.export(module, values, str(path), input_names=names, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in zip(names, values, strict=True)}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def openvino(cascade: Cascade, inputs: Inputs, threads: int) -> Run:
    """OpenVINO, computing in bfloat16 behind float32 inputs."""
    try:
        import openvino
    except ImportError as error:
        raise SkippedError("needs pip install openvino") from error
    module, values = LastStage(cascade, FLOAT32), tuple(value.contiguous() for value in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(module, example_input=values)
        for port, value in zip(model.inputs, values, strict=True):
            port.get_node().set_partial_shape(openvino.PartialShape(list(value.shape)))
        model.validate_nodes_and_infer_types()
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    feed = [value.numpy() for value in values]
    return lambda: torch.from_numpy(request.infer(feed)[0])


def executions(threads: int) -> dict[str, Callable[[Cascade, Inputs], Run]]:
    """All executions, the reference first."""
    return {
        "eager float32": lambda cascade, inputs: eager(cascade, inputs, FLOAT32),
        "eager bfloat16": lambda cascade, inputs: eager(cascade, inputs, BFLOAT16),
        "traced bfloat16": lambda cascade, inputs: traced(cascade, inputs, BFLOAT16),
        "compile bfloat16": lambda cascade, inputs: compiled(cascade, inputs, BFLOAT16),
        "onnxruntime float32": lambda cascade, inputs: onnx_runtime(cascade, inputs, threads),
        "openvino bfloat16": lambda cascade, inputs: openvino(cascade, inputs, threads),
    }


def matrix_rate(dtype: torch.dtype, size: int = 3072) -> float:
    """FLOP per second of one large matrix product, median of five."""
    a, b = torch.randn(2, size, size).to(dtype)
    return 2 * size**3 / statistics.median([_seconds(lambda: a @ b) for _ in range(7)][2:])


def _seconds(run: Run, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


@contextmanager
def busy_python() -> Iterator[None]:
    """Run plain Python in another thread while the block runs."""
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@torch.inference_mode()
def compare(runs: dict[str, Run], rounds: int, target_s: float) -> dict[str, tuple[float, float]]:
    """Median seconds per call, and the factor by which a busy Python thread lengthens it."""
    repeats = {name: max(1, round(target_s / _seconds(run, 2))) for name, run in runs.items()}
    alone: dict[str, list[float]] = {name: [] for name in runs}
    beside: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            alone[name].append(_seconds(run, repeats[name]))
        with busy_python():
            for name, run in runs.items():
                beside[name].append(_seconds(run, max(1, repeats[name] // 4)))
    medians = {name: statistics.median(values) for name, values in alone.items()}
    return {name: (medians[name], statistics.median(beside[name]) / medians[name]) for name in runs}


def main(
    model: Annotated[str, typer.Option()] = "dvt-cifar10",
    batches: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,8,32",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    rounds: Annotated[int, typer.Option(min=5)] = 7,
    target_s: Annotated[float, typer.Option(help="Seconds of each execution in each round.")] = 0.1,
    only: Annotated[list[str] | None, typer.Option(help="Names to compare, such as eager; all when left out.")] = None,
    prepare_only: Annotated[bool, typer.Option(help="Fill the compiler's cache and check the answers.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the figures as JSON.")] = None,
) -> None:
    """Print one row for every execution and batch size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    keep_freed_memory(2**30)
    cascade, console = load(model).cascade, Console()
    flops = 2 * macs.stage_macs(cascade.config)[-1].total
    chosen = {name: build for name, build in executions(threads).items() if _is_chosen(name, only)}
    rows: list[dict[str, Any]] = []
    rates = {str(dtype).removeprefix("torch."): matrix_rate(dtype) for dtype in (FLOAT32, BFLOAT16)}
    for batch in (int(size) for size in batches.split(",")):
        inputs, runs = stage_inputs(cascade, batch), {}
        with torch.inference_mode():
            reference = eager(cascade, inputs, FLOAT32)()
            for name, build in chosen.items():
                try:
                    run = build(cascade, inputs)
                    difference = (run().float() - reference).abs().max().item()
                except SkippedError as reason:
                    console.print(f"{name} is skipped: {reason}")
                    continue
                runs[name] = run
                console.print(f"batch {batch}, {name}: logits differ by at most {difference:.3g}")
        for name, (seconds, factor) in {} if prepare_only else compare(runs, rounds, target_s).items():
            rate = flops * batch / seconds
            rows.append(
                {
                    "execution": name,
                    "batch": batch,
                    "ms": seconds * 1e3,
                    "gflops": rate / 1e9,
                    "share_of_rate": rate / rates[name.split()[-1]],
                    "beside_python": factor,
                }
            )
    table = Table("execution", "batch", "ms", "GFLOP/s", "of the rate", "beside Python", title=f"{model}, last stage")
    for row in rows:
        table.add_row(
            row["execution"],
            str(row["batch"]),
            f"{row['ms']:.2f}",
            f"{row['gflops']:.0f}",
            f"{row['share_of_rate']:.0%}",
            f"x {row['beside_python']:.1f}",
        )
    console.print(table)
    console.print("matrix rate, GFLOP/s:", {name: round(rate / 1e9) for name, rate in rates.items()})
    if out is not None:
        figures = {"machine": platform.machine(), "torch": torch.__version__, "threads": threads, "rates": rates}
        out.write_text(json.dumps({**figures, "rows": rows}, indent=1) + "\n")


def _is_chosen(name: str, only: Sequence[str] | None) -> bool:
    return not only or any(part in name for part in only)


if __name__ == "__main__":
    typer.run(main)
