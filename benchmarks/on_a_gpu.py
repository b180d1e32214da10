"""Everything that needs a machine with one CUDA GPU, in one call: tests, stage times and trainings.

    python benchmarks/on_a_gpu.py --out OUT [--minutes 8] [--train "NAME DATA… [options of dvt train]"]…
    python benchmarks/on_a_gpu.py --out OUT --rehearse

Nothing is fetched from a network. The machine needs Python 3.11 or newer, this source tree, a CUDA build of torch, the
other dependencies in `pyproject.toml`, and pytest with pytest-asyncio. Wheels of packages that it lacks can be in a
folder: `--wheels` installs them into `--work`. `--rehearse` does everything on a CPU within a minute or two, with tiny
settings and images that it makes.

- `tests`: those with `cuda` in their names, in the files that have some.
- `stages`: what every stage of each `--model` takes for a batch, in float32 and bfloat16, with CUDA graphs and without,
  beside plain ViTs of its last two grids with random weights.
- `training`: each `--train` in turn. One that runs out of time leaves a checkpoint in `--work`, and the same call
  continues from it. Of one that finishes, the weights are rounded to half precision.

Every part is a process of its own with a limit of time; where one fails, the next goes on. OUT holds `report.json`,
`log.txt`, and model folders and checkpoints in archives that are cut in pieces: `cat NAME.tar.gz.* | tar xz`.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from gpu_session import MIB, ROOT, Session
from gpu_stages import part_stages

PIECE_BYTES = 15 * MIB
# Shares of the whole time; trainings have what is left.
TESTS_SHARE, STAGES_SHARE = 0.25, 0.3
# Names and epochs of what a rehearsal trains: one that finishes, and one that runs out of time.
TINY, TINY_S = (("finished", 0.2), ("unfinished", 10_000)), 25.0


def tests(session: Session, work: Path) -> None:
    """Run the tests that need a GPU."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "_cuda_" in path.read_text()]
    results = work / "tests.xml"
    # Warnings of other package versions must not fail the tests.
    quiet = ("-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider", f"--junitxml={results}")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda", *quiet, *files]
    part = session.run("tests", command, TESTS_SHARE * session.seconds)
    if results.exists():
        suite = ElementTree.parse(results).find("testsuite")
        part["counts"] = (
            {} if suite is None else {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
        )


def stages(session: Session, work: Path, args: argparse.Namespace, device: str) -> None:
    """Time the stages."""
    results, limit_s = work / "stages.json", min(STAGES_SHARE * session.seconds, session.left_s)
    numbers = ("--batch-sizes", args.batch_sizes, "--rounds", str(args.rounds), "--seconds", f"{limit_s:.0f}")
    models = [*(f"--model={model}" for model in args.model), *(["--rehearse"] if args.rehearse else [])]
    session.run("stages", own("stages", *numbers, "--device", device, "--out", str(results), *models), limit_s)
    session.report["stages"] = json.loads(results.read_text()) if results.exists() else None


def training(session: Session, work: Path, text: str, device: str, limit_s: float) -> None:
    """Train one model until it is finished or its time is over."""
    name, *arguments = shlex.split(text)
    options = next((at for at, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    data = arguments[:options]
    missing = [path for path in data if not Path(path).exists()]
    if missing or not data:
        session.skip(f"training of {name}", f"there is no data at {', '.join(missing)}" if data else "no data is named")
        return
    arguments[:options] = data = [str(Path(path).resolve()) for path in data]
    dvt, folder = [sys.executable, "-m", "service"], work / name
    command = [*dvt, "train", *arguments, "--out", str(folder), "--device", device, "--checkpoint-s", "30"]
    part = session.run(f"training of {name}", command, limit_s)
    # A model folder is written atomically, so it is valid even if the process was ended just afterwards.
    part["finished"] = (folder / "config.json").exists()
    if part["finished"]:
        command = [*dvt, "calibrate", str(folder), *data, "--half", "--device", device]
        session.run(f"rounding of {name}", command, session.left_s)
        part["provenance"] = json.loads((folder / "config.json").read_text())["provenance"]


def pack(session: Session, work: Path, most_pieces: int) -> None:
    """Put models and then checkpoints into the output while there is room."""
    found = sorted(path.parent for path in work.glob("*/config.json"))
    found += sorted(path.parent for path in work.glob(".*/checkpoint.pt") if not (work / path.parent.stem[1:]).exists())
    session.report["archives"], room = {}, most_pieces
    for folder in found:
        name = folder.name.removeprefix(".")
        with tempfile.TemporaryFile() as whole:
            with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=1) as archive:
                archive.add(folder, folder.name)
            num_pieces, size = -(-whole.tell() // PIECE_BYTES), f"{whole.tell() / MIB:.1f} MiB"
            fits = num_pieces <= room
            session.report["archives"][name] = size if fits else f"left out: {size} is more than there is room for"
            whole.seek(0)
            for number in range(num_pieces if fits else 0):
                (session.out / f"{name}.tar.gz.{number:02}").write_bytes(whole.read(PIECE_BYTES))
                room -= 1
    print(f"== archives: {session.report['archives']}", flush=True)


def own(part: str, *options: str) -> list[str]:
    """The command that runs a part of this file."""
    return [sys.executable, str(Path(__file__).resolve()), "--part", part, *options]


def part_machine(args: argparse.Namespace) -> None:
    """Say what this runs on."""
    import torch

    from service.capacity.machine import machine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.write_text(json.dumps({**machine(device), "cuda": torch.version.cuda, "device": device}))


def part_images(args: argparse.Namespace) -> None:
    """Make a few images of two classes."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(120):
        folder = args.out / ("light" if number % 2 else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 128, (8, 8, 3), dtype=np.uint8) + np.uint8(number % 2 * 100)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.png")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the report, the log and the archives; emptied first")
    add("--minutes", type=float, help="8 when left out; 3 in a rehearsal, of which a free core needs one")
    add("--parts", default="tests,stages,training", help="what to do of these")
    add("--model", action="append", help="name or folder of a model whose stages are timed; all shipped ones")
    add("--batch-sizes", help="of the stages; 1,8,32,128")
    add("--rounds", type=int, help="of the stages, at most; 7")
    add("--train", action="append", default=[], help="a training: name, data, options of dvt train; repeatable")
    add("--work", type=Path, help="folder to train in; a temporary one when left out")
    add("--most-pieces", type=int, default=4, help="of the archives, 15 MiB each")
    add("--wheels", type=Path, help="folder of wheels to install first")
    add("--rehearse", action="store_true", help="tiny settings, on a CPU")
    for hidden in ("--part", "--device", "--seconds"):
        add(hidden, type=float if hidden == "--seconds" else str, help=argparse.SUPPRESS)
    args = parser.parse_args()
    shipped = sorted(path.parent.name for path in (ROOT / "weights" / "zoo").glob("*/config.json"))
    args.minutes = args.minutes or (3.0 if args.rehearse else 8.0)
    args.model = args.model or (["dvt-base"] if args.rehearse else shipped)
    args.batch_sizes = args.batch_sizes or ("1" if args.rehearse else "1,8,32,128")
    args.rounds = args.rounds or (1 if args.rehearse else 7)
    return args


def measure(session: Session, args: argparse.Namespace, work: Path) -> None:
    """Run all parts."""
    paths = (str(work / "site"), str(ROOT), os.environ.get("PYTHONPATH", ""))
    session.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if args.wheels:
        wheels = [str(path.resolve()) for path in sorted(args.wheels.glob("*.whl"))]
        options = ("--no-index", "--no-deps", "--no-compile", "--quiet", "--upgrade", "--target", str(work / "site"))
        session.run("wheels", [sys.executable, "-m", "pip", "install", *options, *wheels], session.left_s)
    facts = work / "machine.json"
    session.run("machine", own("machine", "--out", str(facts)), session.left_s)
    session.report["machine"] = found = json.loads(facts.read_text()) if facts.exists() else {}
    device, parts, trainings = "cpu" if args.rehearse else "cuda", args.parts.split(","), args.train
    if not args.rehearse and found.get("device") != "cuda":
        session.skip("all others", "torch finds no CUDA device" if found else "packages are missing, see log.txt")
        return
    if args.rehearse:
        made = work / "images"
        session.run("images", own("images", "--out", str(made)), session.left_s)
        trainings = [f"{name} {made} --init none --variant micro_56 --recipe epochs={epochs}" for name, epochs in TINY]
    if "tests" in parts:
        tests(session, work)
    if "stages" in parts:
        stages(session, work, args, device)
    if "training" in parts:
        for number, text in enumerate(trainings):
            limit_s = min(session.left_s / (len(trainings) - number), TINY_S if args.rehearse else session.seconds)
            training(session, work, text, device, limit_s)
        if not trainings:
            session.skip("training", "no --train was given")
    for name in ("tests", "stages", "training"):
        if name not in parts:
            session.skip(name, "not among --parts")


def main() -> None:
    """Run all parts, or one in a process of its own."""
    args = arguments()
    if args.part is not None:
        with contextlib.suppress(KeyboardInterrupt):
            PARTS[args.part](args)
            return
        sys.exit(130)
    # An end from outside still leaves a report.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args.out = args.out.resolve()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        session = Session(args.out, 60 * args.minutes)
        try:
            measure(session, args, work)
            pack(session, work, args.most_pieces)
        except KeyboardInterrupt:
            session.report["interrupted"] = True
        finally:
            session.close()


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "machine": part_machine,
    "images": part_images,
    "stages": part_stages,
}

if __name__ == "__main__":
    main()
