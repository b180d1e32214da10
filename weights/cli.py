"""The `dvt train`, `calibrate`, `evaluate` and `convert` commands. Slow imports are inside the commands."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[list[Path], typer.Argument(help="Parquet files, or one folder with a folder per class.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read, and list them.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The model folder to write; its name becomes the model's name.")],
    init: Annotated[
        str, typer.Option(help="A shipped model or a model folder to start from, with its architecture; or none.")
    ] = "dvt-base",
    looks_only: Annotated[
        bool, typer.Option("--looks-only", help="Take only the trunks of --init with their classifiers.")
    ] = False,
    variant: Annotated[
        str | None, typer.Option(help="With --init none: a named architecture of models.VARIANTS.")
    ] = None,
    static: Annotated[
        int | None, typer.Option(help="Train one plain ViT at this grid instead: the baseline to compare with.")
    ] = None,
    feature_reuse: Annotated[bool, typer.Option(help="Without it: an ablation.")] = True,
    relation_reuse: Annotated[bool, typer.Option(help="Without it: an ablation.")] = True,
    logit_reuse: Annotated[bool, typer.Option(help="Without it: an ablation.")] = True,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="A number of the recipe, such as epochs=5 or look_epochs=2,1,1,0; may be repeated."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Short for --recipe epochs=…")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Short for --recipe batch_size=…")] = None,
    resize_px: Annotated[
        int | None, typer.Option(help="Shorter side before the crop; that of --init when left out.")
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Part of the images kept for calibration and test; a tenth, more of few.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most so many images, evenly over the classes.")] = None,
    skip_unreadable: SkipUnreadable = False,
    seed: Annotated[int, typer.Option()] = 0,
    device: Device = "auto",
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the checkpoint lives; beside --out when left out.")
    ] = None,
    checkpoint_s: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0.0)] = 120.0,
) -> None:
    """Train a cascade; interrupted with Ctrl-C, the same command goes on where it stopped."""
    from dataclasses import replace

    from models.config import VARIANTS
    from weights.data import DataError
    from weights.preprocessing import Preprocessing
    from weights.store import ModelFormatError, load
    from weights.training.checkpoint import CheckpointError
    from weights.training.recipe import RecipeError
    from weights.training.run import TrainingRun
    from weights.training.train import train as run_training

    start = None if init == "none" else init
    if variant is not None and start is not None:
        raise typer.BadParameter("the architecture comes from --init; say --init none", param_hint="--variant")
    if start is None and looks_only:
        raise typer.BadParameter("with --init none there is nothing to take", param_hint="--looks-only")
    if start is None and (variant is None or variant not in VARIANTS):
        raise typer.BadParameter(f"{variant!r} is not one of {', '.join(VARIANTS)}", param_hint="--variant")
    short = {"epochs": epochs, "batch_size": batch_size}
    values = dict(each.partition("=")[::2] for each in recipe or [])
    values |= {name: str(value) for name, value in short.items() if value is not None}
    try:
        if start is not None:
            manifest = load(start).manifest
            architecture, preprocessing = manifest.architecture, manifest.preprocessing
        else:
            architecture = VARIANTS[variant or ""]
            preprocessing = Preprocessing(resize_px=architecture.image_size, crop_px=architecture.image_size)
        if static is not None:
            architecture = architecture.plain(static)
        if not feature_reuse:
            architecture = replace(architecture, feature_reuse=None)
        if not relation_reuse:
            architecture = replace(architecture, relation_reuse=None)
        if not logit_reuse:
            architecture = replace(architecture, logit_reuse=False)
        finished = run_training(
            TrainingRun(
                name=out.name,
                data=tuple(data),
                out=out,
                run_dir=run_dir or out.parent / f".{out.name}.run",
                architecture=architecture,
                preprocessing=replace(preprocessing, resize_px=resize_px or preprocessing.resize_px),
                init=start,
                looks_only=looks_only,
                recipe=values,
                holdout=holdout,
                limit=limit,
                skip_unreadable=skip_unreadable,
                seed=seed,
                device=_device(device),
                checkpoint_s=checkpoint_s,
            )
        )
    except (
        CheckpointError,
        DataError,
        FloatingPointError,
        ModelFormatError,
        OSError,
        RecipeError,
        ValueError,
    ) as error:
        raise _failure(error) from error
    if not finished:
        raise typer.Exit(130)


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The authors', an EfficientNet-Lite's or a plain ViT's weights.")],
    out: Annotated[Path, typer.Option(help="The model folder to write; its name becomes the model's name.")],
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads, where the file does not tell.")] = None,
    class_names: Annotated[
        Path | None, typer.Option(help="One name a line, or a JSON list; ImageNet's for 1000 classes when left out.")
    ] = None,
    deepest: Annotated[
        Path | None, typer.Option(help="Another EfficientNet-Lite's weights, for the last stage.")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Round the weights to half precision: half the size on disk.")
    ] = False,
) -> None:
    """Convert weights of other programs to a model folder, for use or as a start for `dvt train --init`.

    A checkpoint of the authors becomes the same model, an EfficientNet-Lite a cascade that answers as it does at four
    resolutions. A plain ViT's weights must be trained before use.
    """
    from weights.conversion.convert import convert as run_conversion
    from weights.conversion.convert import summary
    from weights.conversion.foreign import ConversionError
    from weights.store import ModelFormatError

    try:
        conversion = run_conversion(
            checkpoint, out, heads=heads, class_names_file=class_names, deepest=deepest, half=half
        )
    except (ConversionError, ModelFormatError, OSError) as error:
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
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="The model was trained on none of these images: half to fit, half to judge on."),
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    device: Device = "auto",
) -> None:
    """Fit temperatures, calibration table and default thresholds on images the model was not trained on.

    Images that their content and the seed of the training draw for the training part are left out, in whatever files
    they come; --fresh uses all images of a data set the model was not trained from.
    """
    from rich.console import Console

    from weights.calibration.assess import calibrate_model, print_judgement
    from weights.calibration.solver import InfeasibleTargetError
    from weights.data import DataError
    from weights.store import ModelFormatError, load

    console = Console()
    try:
        _, judged = calibrate_model(
            model,
            data,
            accuracy_drop=accuracy_drop,
            half=half,
            fresh=fresh,
            skip_unreadable=skip_unreadable,
            device=_device(device),
            console=console,
        )
    except (DataError, InfeasibleTargetError, ModelFormatError, OSError) as error:
        raise _failure(error) from error
    print_judgement(judged, load(model).manifest, console)


def evaluate(
    model: Annotated[str, typer.Argument(help="A shipped model's name, or a model folder.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the JSON and the pictures.")],
    static: Annotated[
        list[Path] | None, typer.Option(help="A model trained with --static, to compare with; may be repeated.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The models were trained on none of these images: judge on all.")
    ] = False,
    skip_unreadable: SkipUnreadable = False,
    device: Device = "auto",
) -> None:
    """Accuracy per exit, and accuracy over compute for a grid of budgets, on images nothing was chosen on.

    Images that their content and the seed of the training draw for the training or the calibration part are left out,
    in whatever files they come; --fresh judges on all images of a data set the model was not trained from.
    """
    from rich.console import Console

    from weights.calibration.assess import evaluate_model, print_curves, print_judgement
    from weights.calibration.plots import PlotsMissingError
    from weights.data import DataError
    from weights.store import ModelFormatError, load

    console = Console()
    try:
        evaluation = evaluate_model(
            model,
            data,
            out=out,
            statics=static or [],
            fresh=fresh,
            skip_unreadable=skip_unreadable,
            device=_device(device),
            console=console,
        )
    except (DataError, ModelFormatError, OSError, PlotsMissingError) as error:
        raise _failure(error) from error
    print_judgement(evaluation.judgement, load(model).manifest, console)
    print_curves(evaluation, console)
    console.print(f"written: {out / 'evaluation.json'}, {out / 'accuracy.png'}, {out / 'exit_shares.png'}")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    # torch raises RuntimeError for a name it does not know, AssertionError where it was built without CUDA.
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise typer.BadParameter(f"{name!r} cannot be used here: {reason}", param_hint="--device") from error
    return name


def _failure(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)
