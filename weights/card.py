"""The model card, written from a manifest so that it cannot disagree with it."""

from models.macs import baseline_macs, stage_macs
from weights.store import Manifest


def model_card(manifest: Manifest) -> str:
    """Markdown with sizes, results, training data and limits."""
    architecture, provenance = manifest.architecture, manifest.provenance
    baseline = baseline_macs(architecture)
    cumulative, rows = 0, []
    accuracies = provenance["results"]["exit_accuracy"]
    for stage, macs in enumerate(stage_macs(architecture)):
        cumulative += macs.total
        grid = architecture.grids[stage]
        rows.append(
            f"| {stage} | {grid}x{grid} | {macs.total / 1e6:.1f} M | {cumulative / 1e6:.1f} M "
            f"| {cumulative / baseline:.2f} | {accuracies[stage]:.1%} |"
        )
    default = provenance["results"]["default"]
    shares = " / ".join(f"{share:.1%}" for share in default["exit_shares"])
    recipe = "\n".join(f"- {key}: {value}" for key, value in provenance["recipe"].items())
    return f"""# {manifest.name}

A cascade of {architecture.num_stages} Vision Transformers for {architecture.num_classes} classes at
{architecture.image_size} x {architecture.image_size} pixels: width {architecture.embed_dim},
depth {architecture.depth},
{architecture.num_heads} heads, MLP ratio {architecture.mlp_ratio:g}.

## Results

On {provenance["split"]["test"]:,} held-out images that neither the weights nor the thresholds have seen.
MACs are multiply-accumulates executed for one image, reuse modules included; the baseline is one plain ViT at the
last grid with the same embedding ({baseline / 1e6:.1f} M).

| exit | grid | stage MACs | walk MACs | of baseline | top-1 |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Default thresholds {", ".join(f"{t:g}" for t in manifest.thresholds)}, chosen on {provenance["split"]["calibration"]:,}
other held-out images: top-1 {default["accuracy"]:.1%} at {default["mean_macs"] / 1e6:.1f} M MACs a image on average
({default["mean_macs"] / baseline:.2f} of the baseline), leaving at the exits {shares}.

## Training

- data: {provenance["data"]}, {provenance["split"]["train"]:,} images
- hardware: {provenance["hardware"]}
- time: {provenance["hours"]:.2f} hours, ended {provenance["date"]}
- epochs done: {provenance["epochs_done"]} of {provenance["recipe"]["epochs"]}
{recipe}

## Limits

It knows only its {architecture.num_classes} classes and answers with one of them for any picture. It was judged on
images from the same source as its training data; expect less elsewhere. The terms of the training data apply to what
you do with the weights: CIFAR-10 and ImageNet images are for research use.
"""
