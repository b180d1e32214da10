"""`dvt serve` as a program that computes no further than a test allows.

Run as `python tests/support/gated_serve.py FOLDER`. The file `FOLDER/allowed` holds how many runs of a stage may begin;
those that have are in `FOLDER/runs`, one `stage images` a line. The file `FOLDER/import` holds the start up where torch
would be imported, as long as it is there.
"""

import importlib.abc
import sys
import time
from pathlib import Path


class ImportGate(importlib.abc.MetaPathFinder):
    """Waits where torch is looked for."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torch":
            print("importing torch", flush=True)
            while self.gate.exists():
                time.sleep(0.01)


def gate_runs(folder: Path) -> None:
    """Let `TorchRunner.run` begin only as often as is allowed."""
    from service.engine.runner import TorchRunner

    run = TorchRunner.run
    num_runs = 0

    def gated(self, stage, tasks):
        nonlocal num_runs
        with (folder / "runs").open("a") as runs:
            runs.write(f"{stage} {len(tasks)}\n")
        while int((folder / "allowed").read_text() or 0) <= num_runs:
            time.sleep(0.01)
        num_runs += 1
        return run(self, stage, tasks)

    TorchRunner.run = gated


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if (folder / "import").exists():
        sys.meta_path.insert(0, ImportGate(folder / "import"))
    else:
        gate_runs(folder)
    from service.cli import app

    app(["serve"])
