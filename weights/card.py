"""The model card, generated from the manifest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.config import CascadeConfig
from models.macs import baseline_macs, stage_macs
from weights.manifest import Manifest

CARD = "README.md"
_SIGNATURE = "\n<!-- written by dvt; once the text is edited it is not written over: {} -->\n"

TRUNK = "trunk"
"""Key of the provenance that holds the origin of the trunk; models trained from it keep the entry."""


def signed(text: str) -> str:
    """A card's text with a checksum line, which shows whether the text was edited later."""
    return text + _SIGNATURE.format(hashlib.sha256(text.encode()).hexdigest())


def is_edited(path: Path) -> bool:
    """Whether the card differs from what `signed` returned."""
    if not path.exists():
        return False
    written = path.read_text(errors="replace")
    text = written[: written.rfind(_SIGNATURE.partition("{}")[0])]
    return written != signed(text)


def headline(manifest: Manifest) -> str:
    """The card's title, and the architecture in a sentence."""
    architecture = manifest.architecture
    side, width, depth = architecture.image_size, architecture.embed_dim, architecture.depth
    what = f"cascade of {architecture.num_stages} Vision Transformers"
    if architecture.num_stages == 1:
        what = f"plain Vision Transformer of {architecture.grids[0]}x{architecture.grids[0]} tokens"
    return f"""# {manifest.name}

A {what} for {architecture.num_classes} classes at {side} x {side}
pixels: width {width}, depth {depth}, {architecture.num_heads} heads, MLP ratio {architecture.mlp_ratio:g}.
"""


def exit_table(architecture: CascadeConfig, accuracies: Sequence[float] | None) -> str:
    """One row per exit: its cost, and its accuracy if known."""
    baseline = baseline_macs(architecture)
    cumulative = 0
    rows = ["| exit | grid | stage MACs | walk MACs | of baseline | top-1 |", "| --- | --- | --- | --- | --- | --- |"]
    for stage, macs in enumerate(stage_macs(architecture)):
        cumulative += macs.total
        grid = architecture.grids[stage]
        accuracy = "-" if accuracies is None else f"{accuracies[stage]:.1%}"
        rows.append(
            f"| {stage} | {grid}x{grid} | {macs.total / 1e6:.1f} M | {cumulative / 1e6:.1f} M "
            f"| {cumulative / baseline:.2f} | {accuracy} |"
        )
    return "\n".join(rows)


def cost_note(architecture: CascadeConfig) -> str:
    """An explanation of the columns of `exit_table`."""
    return f"""MACs are multiply-accumulates executed for one image, reuse modules included; the baseline is one plain
ViT at the last grid with the same embedding ({baseline_macs(architecture) / 1e6:.1f} M)."""


def origin(manifest: Manifest) -> str:
    """A section on the origin and licence of the trunks; empty for a model without trunks."""
    if TRUNK not in manifest.provenance:
        return ""
    first, *others = manifest.provenance[TRUNK]
    last = "".join(f"\nThe last stage's comes from an {_trunk_source(each)}.\n" for each in others)
    return f"""## Origin and licence

{"The trunk of every stage" if not others else "The trunk of the earlier stages"} comes from an {_trunk_source(first)}.
{last}
Licence of the published weights: {first["licence"]}, without warranty. They have been changed here as this card says.
They were trained on ImageNet: figures on data cut from it, such as Tiny ImageNet, flatter the model.

"""


def _trunk_source(trunk: dict[str, str]) -> str:
    return f"""{trunk["family"]} trained on ImageNet:
`{trunk["file"]}` (sha256 {trunk["sha256"]}),
{trunk["source"]}"""


def model_card(manifest: Manifest) -> str:
    """Markdown with sizes, results, training data and limits of a model this program has trained."""
    architecture, provenance = manifest.architecture, manifest.provenance
    recipe = "\n".join(f"- {key}: {value}" for key, value in provenance["recipe"].items())
    start = ""
    if init := provenance.get("init"):
        start = f"- started from the {init.get('part', 'weights')} of {init['name']}\n"
    rounded = "- weights: rounded to half precision afterwards, and calibrated so\n" if "weights" in provenance else ""
    return f"""{headline(manifest)}
## Results

On {provenance["split"]["test"]:,} held-out images that neither the weights nor the thresholds have seen.
{cost_note(architecture)}

{exit_table(architecture, provenance["results"]["exit_accuracy"])}
{_intervals(provenance["results"])}
Expected calibration error by exit (15 bins), with temperatures {_list(manifest.temperatures, ".2f")} fitted on the
calibration images: {_list(provenance["results"]["calibration_error"], ".1%")}; without them:
{_list(provenance["results"]["calibration_error_uncalibrated"], ".1%")}. With so few images it would be
{_list(provenance["results"]["calibration_error_by_chance"], ".1%")} by chance if every confidence were right.
{_operating_point(manifest)}
## Training

- data: {provenance["data"]}, {provenance["split"]["train"]:,} images
{start}- hardware: {provenance["hardware"]}
- time: {provenance["hours"]:.2f} hours, ended {provenance["date"]}
{rounded}{_held_out(provenance["split"])}{recipe}

{origin(manifest)}## Limits

It knows only its {architecture.num_classes} classes and answers with one of them for any picture. It was judged on
images from the same source as its training data; expect less elsewhere. The terms of the training data apply to what
you do with the weights.
"""


def _intervals(results: dict[str, Any]) -> str:
    """A paragraph on the confidence intervals of the accuracies; empty if they were not computed."""
    if "exit_accuracy_interval" not in results:
        return ""
    intervals = ", ".join(f"{low:.1%} to {high:.1%}" for low, high in results["exit_accuracy_interval"])
    return f"\nFor all such images it lies, in 95 of 100 cases, by exit from {intervals}.\n"


def _operating_point(manifest: Manifest) -> str:
    """A paragraph about the default thresholds, if there are any."""
    if not manifest.thresholds:
        return ""
    default, chosen_on = manifest.provenance["results"]["default"], manifest.provenance["split"]["calibration"]
    shares = " / ".join(f"{share:.1%}" for share in default["exit_shares"])
    share_of_baseline = default["mean_macs"] / baseline_macs(manifest.architecture)
    return f"""
Default thresholds {_list(manifest.thresholds, ".3f")}, chosen on {chosen_on:,}
other held-out images: top-1 {default["accuracy"]:.1%} at {default["mean_macs"] / 1e6:.1f} M MACs an image on average
({share_of_baseline:.2f} of the baseline), leaving at the exits {shares}.
"""


def _held_out(split: dict[str, Any]) -> str:
    """Lines on how the held-out images were chosen; none for a model that was split by position."""
    lines = ""
    if "by" in split:
        lines += f"- held out: {split['holdout']:.3g} of the images, drawn by their content with seed {split['seed']}\n"
    if "near_duplicates" in split:
        lines += f"- left out of the held-out images: {split['near_duplicates']:,} near-duplicates of other images\n"
    if "calibrated_on" in split:
        lines += "- calibrated and judged on other files than it was trained from\n"
    return lines


def _list(values: Sequence[float], form: str) -> str:
    return ", ".join(format(value, form) for value in values)
