"""What the command line prints, as tables."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.macs import baseline_macs, stage_macs
from service.commands.classify import FileResult
from weights.store import Manifest, StoredModel


def print_files(results: Sequence[FileResult]) -> None:
    """One row a file; an error takes the place of the answer."""
    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("label")
    for name in ("confidence", "exit grid", "MACs", "of baseline"):
        table.add_column(name, justify="right")
    for result in results:
        if result.result is None:
            table.add_row(Text(_printable(result.name)), Text(result.error or "", style="red"))
            continue
        answer = result.result
        table.add_row(
            Text(_printable(result.name)),
            Text(answer["label"]),
            f"{answer['confidence']:.3f}",
            _grid(answer["exit"]["grid"]),
            f"{answer['compute']['macs']:,}",
            f"{answer['compute']['fraction']:.1%}",
        )
    Console().print(table)


def print_model(stored: StoredModel) -> None:
    """A model's exits with their cost, then what else there is to know about it."""
    console = Console()
    console.print(_stages(stored.manifest))
    console.print(_facts(stored))


def _printable(name: str) -> str:
    # A name may hold what a terminal takes for a command.
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)


def _stages(manifest: Manifest) -> Table:
    architecture = manifest.architecture
    baseline = baseline_macs(architecture)
    macs = [stage.total for stage in stage_macs(architecture)]
    table = Table("stage", "grid", "tokens", "MACs", "cumulative", "of baseline", title=manifest.name)
    for stage, cumulative in enumerate(accumulate(macs)):
        table.add_row(
            str(stage),
            _grid(architecture.grids[stage]),
            str(architecture.num_tokens(stage)),
            f"{macs[stage]:,}",
            f"{cumulative:,}",
            f"{cumulative / baseline:.1%}",
        )
    table.add_section()
    plain = architecture.plain()
    table.add_row("plain", _grid(plain.grids[0]), str(plain.num_tokens(0)), f"{baseline:,}", f"{baseline:,}", "100%")
    return table


def _facts(stored: StoredModel) -> Table:
    manifest = stored.manifest
    preprocessing = manifest.preprocessing
    num_bytes = sum(file.stat().st_size for file in stored.path.iterdir() if file.is_file())
    table = Table(show_header=False, box=None)
    facts = {
        "classes": str(manifest.architecture.num_classes),
        "parameters": f"{sum(parameter.numel() for parameter in stored.cascade.parameters()):,}",
        "size on disk": f"{num_bytes / 1e6:.1f} MB",
        "input": f"{preprocessing.crop_px} of {preprocessing.resize_px} px, {preprocessing.interpolation}",
        "thresholds": _numbers(manifest.thresholds),
        "temperatures": _numbers(manifest.temperatures),
        **_flatten("", manifest.provenance),
    }
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _flatten(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(f"{prefix}{name}.", value)
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _grid(side: int) -> str:
    return f"{side}x{side}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
