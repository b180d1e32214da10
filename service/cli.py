"""The `dvt` command. What is slow to import is imported by the command that needs it."""

import json
import os
import signal
from typing import Annotated

import typer

from service.commands.bench import bench
from service.commands.plan import plan
from service.commands.streams import open_standard_streams
from service.commands.terminal import errors_as_messages
from service.version import SERVICE_NAME, service_version
from weights.cli import calibrate, convert, evaluate, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{SERVICE_NAME} {service_version()}")
        raise typer.Exit


@app.callback()
def before_every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """A cascade of Vision Transformers that spends compute only where an image needs it."""
    open_standard_streams()


for command in (train, calibrate, evaluate, convert, plan):
    app.command()(command)
app.add_typer(bench, name="bench")

Model = Annotated[str | None, typer.Option(help="A shipped model's name, or a model folder.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")]


@app.command()
def serve(
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    max_inflight: Annotated[int | None, typer.Option(help="Images admitted at one time.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Images a stage runs at once.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve a model over HTTP. Every setting is also a DVT_… environment variable."""
    # The server has its own handler later. As a container's first process, this one would ignore the default, and
    # until there is something to lose, an exception in the middle of an import would be the worse end.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with errors_as_messages():
        from service.http.listener import bind
        from service.settings import load_settings
        from weights.manifest import find, read_manifest

        settings = load_settings(
            model=model,
            http_host=host,
            http_port=port,
            device=device,
            dtype=dtype,
            max_inflight=max_inflight,
            max_batch_size=max_batch_size,
            log_level=log_level,
        )
        # What may be wrong is said before the seconds that the rest takes to import.
        read_manifest(find(settings.model))
        listener = bind(settings)
        from service.commands.serve import serve as run_server

        raise typer.Exit(run_server(settings, listener))


@app.command()
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
        from service.commands.classify import classify_files
        from service.settings import load_settings

        settings = load_settings(model=model, device=device, dtype=dtype)
        results = classify_files(files, settings, thresholds=thresholds)
    if as_json:
        typer.echo(json.dumps([result.report() for result in results], indent=2))
    else:
        from service.commands.tables import print_files

        print_files(results)
    if any(result.error for result in results):
        raise typer.Exit(1)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="A shipped model's name, or a model folder.")] = None,
) -> None:
    """Show a model's exits and what each costs, its sizes and where it comes from."""
    with errors_as_messages():
        from service.commands.tables import print_model
        from service.settings import load_settings
        from weights.store import load

        print_model(load(load_settings(model=model).model))
