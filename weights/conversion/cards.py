"""Model cards of converted checkpoints; they quote only what the checkpoints' authors state."""

from models.config import TrunkEmbeddingConfig
from weights.card import TRUNK, cost_note, exit_table, headline, origin
from weights.store import Manifest


def converted_card(manifest: Manifest) -> str:
    """The card of a model with the authors' own weights."""
    stated = manifest.provenance["stated_by_authors"]
    return f"""{headline(manifest)}
Converted from {_source(manifest)}: the same tensors under other names{_rounding(manifest)}.
Nothing was trained or measured here.

## Exits

Accuracies are those the checkpoint states{"" if stated["exit_top1"] else ": none"}. {cost_note(manifest.architecture)}
The checkpoint's own costs leave out the resampling of reused features and relations, which is counted here.

{exit_table(manifest.architecture, stated["exit_top1"])}

## Operating points

{_operating_points(manifest)}

## Limits

It knows only its {manifest.architecture.num_classes} classes and answers with one of them for any picture. The weights
are their authors' work; converting them gives no right to them that you did not have before.
"""


def initial_card(manifest: Manifest) -> str:
    """The card of a cascade that is only a starting point."""
    return f"""{headline(manifest)}
**Not trained: train it before use.** These are initial weights, taken from {_source(manifest)}, a plain ViT.
Its exits have never been trained as such, and its answers mean nothing yet. Start from it with `dvt train --init`.

- The last stage has the ViT's own weights.
- The other stages have them too, with patch and position embedding resampled to their grids.
- The modules that reuse features and relations are new and begin without influence.

## Exits

{cost_note(manifest.architecture)}

{exit_table(manifest.architecture, None)}
"""


def trunk_card(manifest: Manifest) -> str:
    """The card of a cascade around a published trunk, of which nothing was trained."""
    config = manifest.architecture
    families = [each["family"] for each in manifest.provenance[TRUNK]]
    held = f"Every stage holds the whole {families[0]}"
    if len(families) > 1:
        held = f"The earlier stages hold the whole {families[0]}, the last one {families[1]}"
    assert isinstance(config.embedding, TrunkEmbeddingConfig)
    sides = ", ".join(str(look.px) for look in config.embedding.looks)
    return f"""{headline(manifest)}
{held}.
Its exit answers as that network does for an image of {sides} pixels a side in turn.
The Transformers between trunk and exit are new and have no influence yet. Nothing was trained or measured here, no
exit is calibrated, and the default thresholds let no image leave before the last exit. It can be used as it is, or
as a start: `dvt train --init`.

## Exits

{cost_note(config)}

{exit_table(config, None)}

{origin(manifest)}Changed: the tensors have other names{_rounding(manifest)}.

## Limits

It knows only its {config.num_classes} classes and answers with one of them for any picture.
"""


def _rounding(manifest: Manifest) -> str:
    return ", rounded to half precision" if "weights" in manifest.provenance else ""


def _operating_points(manifest: Manifest) -> str:
    thresholds = ", ".join(f"{threshold:g}" for threshold in manifest.thresholds)
    points = manifest.operating_points
    if not points:
        return f"""The checkpoint has no thresholds. The defaults, {thresholds}, let no image leave before the last
exit."""
    default = next(point for point in points if point.thresholds == manifest.thresholds)
    return f"""{len(points)} budgets of the checkpoint can be selected by name, {points[0].name} to {points[-1].name}.
The default is {default.name}, the cheapest within half a point of the best: top-1 {default.accuracy:.1%} at
{default.mean_macs / 1e6:.1f} M MACs an image, by the checkpoint's own count. Its thresholds are {thresholds}."""


def _source(manifest: Manifest) -> str:
    source = manifest.provenance["converted_from"]
    return f"`{source['file']}` (sha256 {source['sha256']})"
