"""`dvt info`: a model's exits, costs, sizes and origin. Slow imports are inside the functions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.commands.terminal import ModelArgument, errors_as_messages

if TYPE_CHECKING:
    from rich.table import Table

    from weights.store import Manifest, StoredModel


def info(model: ModelArgument = None) -> None:
    """Show a model's exits and what each costs, its sizes and where it comes from."""
    with errors_as_messages():
        from rich.console import Console

        from service.settings import load_settings
        from weights.store import load

        stored = load(load_settings(model=model).model)
        console = Console()
        console.print(_stages(stored.manifest))
        console.print(_facts(stored))


def _stages(manifest: "Manifest") -> "Table":
    from itertools import accumulate

    from rich.table import Table

    from models.macs import baseline_macs, stage_macs

    architecture = manifest.architecture
    baseline = baseline_macs(architecture)
    macs = [stage.total for stage in stage_macs(architecture)]
    table = Table("stage", "grid", "tokens", "MACs", "cumulative", "of baseline", title=manifest.name)
    for stage, (own, cumulative) in enumerate(zip(macs, accumulate(macs), strict=True)):
        tokens, share = str(architecture.num_tokens(stage)), f"{cumulative / baseline:.1%}"
        table.add_row(str(stage), _grid(architecture.grids[stage]), tokens, f"{own:,}", f"{cumulative:,}", share)
    table.add_section()
    plain = architecture.plain()
    table.add_row("plain", _grid(plain.grids[0]), str(plain.num_tokens(0)), f"{baseline:,}", f"{baseline:,}", "100%")
    return table


def _grid(side: int) -> str:
    return f"{side}x{side}"


def _facts(stored: "StoredModel") -> "Table":
    from rich.table import Table
    from rich.text import Text

    manifest, preprocessing = stored.manifest, stored.manifest.preprocessing
    num_bytes = sum(file.stat().st_size for file in stored.path.iterdir() if file.is_file())
    facts = {
        "classes": str(manifest.architecture.num_classes),
        "parameters": f"{sum(parameter.numel() for parameter in stored.cascade.parameters()):,}",
        "size on disk": f"{num_bytes / 1e6:.1f} MB",
        "input": f"{preprocessing.crop_px} of {preprocessing.resize_px} px, {preprocessing.interpolation}",
        "thresholds": _numbers(manifest.thresholds),
        "temperatures": _numbers(manifest.temperatures),
        **_flatten("", manifest.provenance),
    }
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _flatten(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(f"{prefix}{name}.", value)
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
