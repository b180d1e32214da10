"""The `dvt` command. What is slow to import is imported by the command that needs it."""

from typing import Annotated

import typer

from service.commands.bench import bench
from service.commands.classify import classify
from service.commands.info import info
from service.commands.plan import plan
from service.commands.serve import serve
from service.commands.terminal import open_standard_streams
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


for command in (train, calibrate, evaluate, convert, plan, serve, classify, info):
    app.command()(command)
app.add_typer(bench, name="bench")
