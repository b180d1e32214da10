"""`dvt classify`: images without a server. What is slow to import is imported when the command runs."""

import json
from typing import Annotated, Any

import typer

from service.commands.terminal import Device, Dtype, Model, errors_as_messages


def classify(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders with images in or below them, or - for standard input.",
            metavar="FILE…",
            show_default=False,
        ),
    ],
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    thresholds: Annotated[
        str | None, typer.Option(help="Confidence to leave at: one number, or one per exit but the last.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classify images without a server; fails when one of them could not be."""
    with errors_as_messages():
        from service.commands.files import classify_files
        from service.settings import load_settings

        results = classify_files(files, load_settings(model=model, device=device, dtype=dtype), thresholds)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        _print_table(results)
    if any("error" in result for result in results):
        raise typer.Exit(1)


def _print_table(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("file", overflow="fold")
    table.add_column("label")
    for heading in ("confidence", "exit grid", "MACs", "of baseline"):
        table.add_column(heading, justify="right")
    for result in results:
        name = Text(_printable(result["file"]))
        if "error" in result:
            table.add_row(name, Text(result["error"], style="red"))
            continue
        grid, compute = result["exit"]["grid"], result["compute"]
        table.add_row(
            name,
            Text(result["label"]),
            f"{result['confidence']:.3f}",
            f"{grid}x{grid}",
            f"{compute['macs']:,}",
            f"{compute['fraction']:.1%}",
        )
    Console().print(table)


def _printable(name: str) -> str:
    # A name may contain control sequences of a terminal.
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in name)
