"""The `dvt train` command."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[list[Path], typer.Argument(help="Parquet files, or one folder with a folder per class.")],
    out: Annotated[Path, typer.Option(help="The model folder to write; its name becomes the model's name.")],
    variant: Annotated[str, typer.Option(help="A named architecture of models.VARIANTS.")] = "micro_56",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 1e-3,
    resize_px: Annotated[
        int | None, typer.Option(help="Shorter side before the crop; the image size when left out.")
    ] = None,
    holdout: Annotated[float, typer.Option(help="Part of the images kept for calibration and test.")] = 0.1,
    limit: Annotated[int | None, typer.Option(help="Use only the first so many images.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    run_dir: Annotated[Path | None, typer.Option(help="Where the checkpoint lives; runs/NAME when left out.")] = None,
    checkpoint_s: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0.0)] = 120.0,
) -> None:
    """Train a cascade; interrupted with Ctrl-C, the same command goes on where it stopped."""
    import torch

    from models.config import VARIANTS
    from weights.checkpoint import CheckpointError
    from weights.data import DataError
    from weights.preprocessing import Preprocessing
    from weights.recipe import Recipe
    from weights.store import ModelFormatError
    from weights.train import TrainingRun
    from weights.train import train as run_training

    if variant not in VARIANTS:
        raise typer.BadParameter(f"{variant!r} is not one of {', '.join(VARIANTS)}", param_hint="--variant")
    architecture = VARIANTS[variant]
    crop_px = architecture.image_size
    try:
        finished = run_training(
            TrainingRun(
                name=out.name,
                data=tuple(data),
                out=out,
                run_dir=run_dir or Path("runs") / out.name,
                architecture=architecture,
                preprocessing=Preprocessing(resize_px=resize_px or crop_px, crop_px=crop_px),
                recipe=Recipe(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed),
                holdout=holdout,
                limit=limit,
                device=("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device,
                checkpoint_s=checkpoint_s,
            )
        )
    except (CheckpointError, DataError, ModelFormatError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if not finished:
        raise typer.Exit(130)
