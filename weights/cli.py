"""The `dvt train`, `calibrate`, `evaluate` and `convert` commands. What is slow to import waits until one runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[list[Path], typer.Argument(help="Parquet files, or one folder with a folder per class.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The model folder to write; its name becomes the model's name.")],
    variant: Annotated[
        str | None, typer.Option(help="A named architecture of models.VARIANTS; micro_56 when left out.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="A model folder to start from, with its architecture and preprocessing.")
    ] = None,
    stem_only: Annotated[
        bool, typer.Option("--stem-only", help="Take only the convolutional stem of --init; the stages are new.")
    ] = False,
    static: Annotated[
        int | None, typer.Option(help="Train one plain ViT at this grid instead: the baseline to compare with.")
    ] = None,
    grids: Annotated[
        str | None, typer.Option(help="Tokens a side of each stage, such as 2,4,7; the architecture's when left out.")
    ] = None,
    feature_reuse: Annotated[bool, typer.Option(help="Without it: an ablation.")] = True,
    relation_reuse: Annotated[bool, typer.Option(help="Without it: an ablation.")] = True,
    recipe: Annotated[str, typer.Option(help="A named recipe of weights.training.recipe.RECIPES.")] = "short",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The recipe's own when left out, as the next three.")
    ] = None,
    growth: Annotated[
        str | None,
        typer.Option(help="Of them, for how many only the first stage is trained, then the first two, ...: 0,0,12."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0)] = None,
    distillation: Annotated[float, typer.Option(min=0.0, help="Weight of the last exit as a teacher.")] = 0.0,
    resize_px: Annotated[
        int | None, typer.Option(help="Shorter side before the crop; the image size, or that of --init, when left out.")
    ] = None,
    holdout: Annotated[float, typer.Option(help="Part of the images kept for calibration and test.")] = 0.1,
    limit: Annotated[int | None, typer.Option(help="Use only the first so many images.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Device = "auto",
    run_dir: Annotated[Path | None, typer.Option(help="Where the checkpoint lives; runs/NAME when left out.")] = None,
    checkpoint_s: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0.0)] = 120.0,
) -> None:
    """Train a cascade; interrupted with Ctrl-C, the same command goes on where it stopped."""
    from dataclasses import replace

    from models.config import VARIANTS
    from weights.data import DataError
    from weights.preprocessing import Preprocessing
    from weights.store import ModelFormatError, load
    from weights.training.checkpoint import CheckpointError
    from weights.training.recipe import RECIPES
    from weights.training.train import TrainingRun
    from weights.training.train import train as run_training

    if variant is not None and init is not None:
        raise typer.BadParameter("the architecture comes from --init; leave --variant out", param_hint="--variant")
    if stem_only and init is None:
        raise typer.BadParameter("the stem of which model? name one with --init", param_hint="--stem-only")
    if variant is not None and variant not in VARIANTS:
        raise typer.BadParameter(f"{variant!r} is not one of {', '.join(VARIANTS)}", param_hint="--variant")
    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r} is not one of {', '.join(RECIPES)}", param_hint="--recipe")
    given = {
        "epochs": epochs,
        "growth": _numbers(growth, "--growth"),
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        if init is not None:
            manifest = load(init).manifest
            architecture, preprocessing = manifest.architecture, manifest.preprocessing
        else:
            architecture = VARIANTS[variant or "micro_56"]
            preprocessing = Preprocessing(resize_px=architecture.image_size, crop_px=architecture.image_size)
        architecture = architecture.at(_numbers(grids, "--grids") or architecture.grids)
        if not feature_reuse:
            architecture = replace(architecture, feature_reuse=None)
        if not relation_reuse:
            architecture = replace(architecture, relation_reuse=None)
        if static is not None:
            # One stage: nothing to grow.
            architecture, changes["growth"] = architecture.plain(static), ()
        finished = run_training(
            TrainingRun(
                name=out.name,
                data=tuple(data),
                out=out,
                run_dir=run_dir or Path("runs") / out.name,
                architecture=architecture,
                preprocessing=replace(preprocessing, resize_px=resize_px or preprocessing.resize_px),
                init=init,
                stem_only=stem_only,
                recipe=replace(RECIPES[recipe], seed=seed, distillation=distillation, **changes),
                holdout=holdout,
                limit=limit,
                device=_device(device),
                checkpoint_s=checkpoint_s,
            )
        )
    except (CheckpointError, DataError, FloatingPointError, ModelFormatError, ValueError) as error:
        raise _failure(error) from error
    if not finished:
        raise typer.Exit(130)


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A released checkpoint of the authors, or a plain ViT's weights.")],
    out: Annotated[Path, typer.Option(help="The model folder to write; its name becomes the model's name.")],
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads, where the file does not tell.")] = None,
    class_names: Annotated[
        Path | None, typer.Option(help="One name a line, or a JSON list; ImageNet's for 1000 classes when left out.")
    ] = None,
) -> None:
    """Convert the authors' checkpoint to a model folder, or a plain ViT to a starting point for `dvt train --init`."""
    from weights.conversion.convert import convert as run_conversion
    from weights.conversion.convert import summary
    from weights.conversion.foreign import ConversionError
    from weights.store import ModelFormatError

    try:
        conversion = run_conversion(checkpoint, out, heads=heads, class_names_file=class_names)
    except (ConversionError, ModelFormatError) as error:
        raise _failure(error) from error
    typer.echo(summary(conversion, out))


def calibrate(
    model: Annotated[Path, typer.Argument(help="A model folder; it is rewritten.")],
    data: Data,
    accuracy_drop: Annotated[
        float,
        typer.Option(help="How far the default thresholds may fall below the last exit; negative: how far above it."),
    ] = 0.005,
    half: Annotated[
        bool, typer.Option("--half", help="Round the weights to half precision first: half the size on disk.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Fit temperatures, calibration table and default thresholds on images the model was not trained on."""
    from rich.console import Console

    from weights.calibration.assess import calibrate_model, print_judgement
    from weights.calibration.solver import InfeasibleTargetError
    from weights.data import DataError
    from weights.store import ModelFormatError, load

    console = Console()
    try:
        _, judged = calibrate_model(
            model, data, accuracy_drop=accuracy_drop, half=half, device=_device(device), console=console
        )
    except (DataError, InfeasibleTargetError, ModelFormatError) as error:
        raise _failure(error) from error
    print_judgement(judged, load(model).manifest, console)


def evaluate(
    model: Annotated[str, typer.Argument(help="A shipped model's name, or a model folder.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the pictures.")],
    static: Annotated[
        list[Path] | None, typer.Option(help="A model trained with --static, to compare with; may be repeated.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Accuracy per exit, and accuracy over compute for a grid of budgets, on images nothing was chosen on."""
    from rich.console import Console

    from weights.calibration.assess import evaluate_model, print_curves, print_judgement
    from weights.calibration.plots import PlotsMissingError
    from weights.data import DataError
    from weights.store import ModelFormatError, load

    console = Console()
    try:
        evaluation = evaluate_model(model, data, out=out, statics=static or [], device=_device(device), console=console)
    except (DataError, ModelFormatError, PlotsMissingError) as error:
        raise _failure(error) from error
    print_judgement(evaluation.judgement, load(model).manifest, console)
    print_curves(evaluation, console)
    console.print(f"written: {out / 'evaluation.json'}, {out / 'accuracy.png'}, {out / 'exit_shares.png'}")


def _numbers(listed: str | None, option: str) -> tuple[int, ...] | None:
    try:
        return None if listed is None else tuple(int(number) for number in listed.split(","))
    except ValueError:
        raise typer.BadParameter(f"{listed!r} is not whole numbers with commas between", param_hint=option) from None


def _device(name: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _failure(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)
