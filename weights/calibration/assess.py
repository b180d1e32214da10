"""`dvt calibrate` and `dvt evaluate` without the command line."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from models.host_memory import keep_freed_memory
from weights.calibration.calibrate import (
    Calibration,
    Judgement,
    calibrate_and_judge,
    cumulative_macs,
    held_out_logits,
)
from weights.calibration.evaluate import Evaluation, evaluate
from weights.calibration.held_out import CALIBRATED_ON, FRESH, held_out
from weights.calibration.plots import StaticResult, plot_accuracy, plot_exit_shares
from weights.calibration.thresholds import Floats
from weights.card import model_card
from weights.data import DataError, LabelledImages, load_images
from weights.folder import check_writable as check_place
from weights.store import Manifest, StoredModel, check_writable, load, round_to_half, save

_BATCH_SIZE = 64


def calibrate_model(
    model: str | Path,
    data: Sequence[Path],
    *,
    accuracy_drop: float,
    half: bool,
    device: str,
    console: Console,
    fresh: bool = False,
    skip_unreadable: bool = False,
) -> tuple[Calibration, Judgement]:
    """Fit temperatures, calibration table and default thresholds, and write them into the model's folder.

    Args:
        half: round the weights to half precision first.
        fresh: whether the model was trained on none of the images; then half of them are for calibration.
        skip_unreadable: leave out images that cannot be decoded.

    Raises:
        DataError: when the data cannot be used, has other classes or too few held-out images.
        ModelFormatError: when the model cannot be used.
    """
    stored = load(model)
    check_writable(stored.path)
    manifest = stored.manifest
    if half:
        round_to_half(stored.cascade)
    parts = held_out(manifest, data, _read(data, manifest, skip_unreadable, console), fresh=fresh)
    console.print(str(parts))
    seen, unseen = parts.calibration, parts.test
    if not len(seen):
        raise DataError(f"none of the images is left to calibrate on; give more: {parts}")
    logits = [_logits(stored, part, device, console) for part in (seen, unseen)]
    fitted, judged = calibrate_and_judge(
        stored.cascade, (logits[0], seen.labels), (logits[1], unseen.labels), accuracy_drop
    )
    provenance = {
        **manifest.provenance,
        "split": parts.provenance(manifest.provenance.get("split", {}), fresh=fresh),
        "results": asdict(judged),
        **({"weights": "float16"} if half else {}),
    }
    changed = manifest.model_copy(
        update={
            "temperatures": fitted.temperatures,
            "thresholds": fitted.default.thresholds,
            "provenance": provenance,
        }
    )
    # Only cards of trained models are written from the manifest; a converted model's card stays.
    card = model_card(changed) if "recipe" in provenance else None
    save(stored.path, stored.cascade, changed, card, fitted.table)
    return fitted, judged


def evaluate_model(
    model: str | Path,
    data: Sequence[Path],
    *,
    out: Path,
    statics: Sequence[str | Path],
    device: str,
    console: Console,
    fresh: bool = False,
    skip_unreadable: bool = False,
) -> Evaluation:
    """Judge a calibrated model; writes `evaluation.json` and two pictures into `out`.

    Args:
        statics: model folders with a single stage, to compare with on the same images.
        fresh: whether the models were trained on none of the images: then all are judged, or the half that the
            model was not calibrated on.
        skip_unreadable: leave out images that cannot be decoded.

    Raises:
        DataError: when the data cannot be used, has other classes or no held-out image, or the model was never
            calibrated.
        ModelFormatError: when a model cannot be used.
        PlotsMissingError: without matplotlib.
    """
    stored = load(model)
    if stored.calibration is None:
        raise DataError(f"{stored.path} has no calibration table; run `dvt calibrate` first")
    out.mkdir(parents=True, exist_ok=True)
    check_place(out)
    images = _images_to_judge(
        stored.manifest, data, _read(data, stored.manifest, skip_unreadable, console), fresh, console
    )
    logits = _logits(stored, images, device, console)
    evaluation = evaluate(stored.manifest, stored.calibration, logits, images.labels)
    static_results = [_static(each, images, device, console) for each in statics]
    report = {**evaluation.report(), "statics": [asdict(static) for static in static_results]}
    (out / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    plot_accuracy(evaluation, static_results, out / "accuracy.png")
    plot_exit_shares(evaluation, out / "exit_shares.png")
    return evaluation


def _read(paths: Sequence[Path], manifest: Manifest, skip_unreadable: bool, console: Console) -> LabelledImages:
    data = load_images(paths, manifest.preprocessing, skip_unreadable=skip_unreadable)
    for note in data.notes:
        console.print(note)
    return data


def _images_to_judge(
    manifest: Manifest, paths: Sequence[Path], data: LabelledImages, fresh: bool, console: Console
) -> LabelledImages:
    if fresh and manifest.provenance.get("split", {}).get(CALIBRATED_ON) != FRESH:
        return data.relabelled(manifest.class_names)
    parts = held_out(manifest, paths, data, fresh=fresh)
    console.print(str(parts))
    return parts.test


def print_judgement(judged: Judgement, manifest: Manifest, console: Console) -> None:
    """One row per exit, and what the default thresholds do."""
    table = Table("exit", "top-1", "calibration error", "by chance", "before", "leaves here")
    default = judged.default
    for stage, grid in enumerate(manifest.architecture.grids):
        table.add_row(
            f"{grid}x{grid}",
            f"{judged.exit_accuracy[stage]:.2%}",
            f"{judged.calibration_error[stage]:.2%}",
            f"{judged.calibration_error_by_chance[stage]:.2%}",
            f"{judged.calibration_error_uncalibrated[stage]:.2%}",
            f"{default.exit_shares[stage]:.1%}",
        )
    console.print(table)
    console.print(f"default thresholds: top-1 {default.accuracy:.2%} at {default.mean_macs / 1e6:.1f} M MACs an image")


def print_curves(evaluation: Evaluation, console: Console) -> None:
    """Accuracy and mean MACs per budget, for each method of choosing thresholds."""
    table = Table("budget, of baseline", title=f"{evaluation.name}, {evaluation.num_images} held-out images")
    for way in evaluation.curves:
        table.add_column(f"{way}: top-1")
        table.add_column("mean MACs, of baseline")
    for points in zip(*evaluation.curves.values(), strict=True):
        row = [f"{points[0].budget_macs / evaluation.baseline_macs:.2f}"]
        for point in points:
            row += [f"{point.outcome.accuracy:.2%}", f"{point.outcome.mean_macs / evaluation.baseline_macs:.2f}"]
        table.add_row(*row)
    console.print(table)


def _static(model: str | Path, images: LabelledImages, device: str, console: Console) -> StaticResult:
    stored = load(model)
    logits = _logits(stored, images, device, console)
    accuracy = float((logits[-1].argmax(axis=-1) == images.labels).mean())
    return StaticResult(stored.manifest.name, accuracy, cumulative_macs(stored.manifest.architecture)[-1])


def _logits(stored: StoredModel, images: LabelledImages, device: str, console: Console) -> Floats:
    if device == "cpu":
        keep_freed_memory()
    # Convolutions of trunks and stems are twice as fast with channels last.
    cascade = stored.cascade.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(stored.manifest.name, total=len(images))
        return held_out_logits(
            cascade,
            images,
            stored.manifest.preprocessing,
            batch_size=_BATCH_SIZE,
            progress=lambda done: progress.update(bar, completed=done),
        )
