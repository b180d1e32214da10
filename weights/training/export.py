"""Writes a trained cascade as a model folder: calibrated, judged on unseen images, with a card."""

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from math import sqrt
from typing import Any

import torch

from weights.calibration.calibrate import calibrate_and_judge, held_out_logits
from weights.calibration.thresholds import Floats
from weights.card import TRUNK, model_card
from weights.data import LabelledImages
from weights.store import Manifest, save
from weights.training.phase import Report
from weights.training.run import PreparedRun
from weights.training.trainer import Trainer

_BATCH_SIZE = 64
_NORMAL_QUANTILE = 1.959964  # the normal distribution's quantile of 97.5 %


def export(plan: PreparedRun, trainer: Trainer, seconds: float, report: Report) -> dict[str, Any]:
    """Write the model folder.

    Args:
        seconds: duration of the run.
        report: receives the progress of calibration and judging.

    Returns:
        The results in the model's provenance.
    """
    run, parts = plan.run, plan.parts
    cascade, architecture = trainer.cascade.eval(), trainer.cascade.config

    def logits(name: str, images: LabelledImages) -> Floats:
        return held_out_logits(
            cascade,
            images,
            run.preprocessing,
            batch_size=_BATCH_SIZE,
            progress=lambda done: report(name, done, len(images)),
        )

    calibration, test = plan.data.subset(parts.calibration), plan.data.subset(parts.test)
    seen = logits("calibrating", calibration), calibration.labels
    fitted, judged = calibrate_and_judge(cascade, seen, (logits("judging", test), test.labels))
    interval = partial(wilson_interval, total=len(test))
    results = {
        **asdict(judged),
        "exit_accuracy_interval": [interval(round(share * len(test))) for share in judged.exit_accuracy],
    }
    manifest = Manifest(
        name=run.name,
        architecture=architecture,
        preprocessing=run.preprocessing,
        class_names=test.class_names,
        thresholds=fitted.default.thresholds,
        temperatures=fitted.temperatures,
        provenance={
            "data": ", ".join(path.name for path in run.data),
            "split": parts.provenance(plan.holdout, run.seed),
            "recipe": asdict(plan.recipe),
            "hours": round(seconds / 3600, 3),
            "hardware": _hardware(trainer.device),
            "torch": torch.__version__,
            "date": datetime.now(UTC).date().isoformat(),
            "results": results,
            **({"init": plan.origin} if plan.origin else {}),
            **({TRUNK: plan.trunk} if plan.trunk else {}),
        },
    )
    save(run.out, cascade, manifest, model_card(manifest), fitted.table)
    return results


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share when `right` of `total` images were right.

    Source: Wilson, Probable inference, JASA 22 (1927); unlike the normal approximation it holds near 0 and 1.
    """
    share, z = right / total, _NORMAL_QUANTILE
    centre = share + z**2 / (2 * total)
    reach = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of a CPU ({platform.machine()})"
