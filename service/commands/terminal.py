"""What all commands share: common options, errors as messages, and standard streams that are always open."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated

import typer

from service.errors import ServiceError

Model = Annotated[str | None, typer.Option(help="A shipped model's name, or a model folder.")]
ModelArgument = Annotated[str | None, typer.Argument(help="A shipped model's name, or a model folder.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")]
MaxInflight = Annotated[int | None, typer.Option(help="Images admitted at one time.")]
MaxBatchSize = Annotated[int | None, typer.Option(help="Images a stage runs at once.")]


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print an error that the user can put right as one line, and exit with code 2; other errors have a traceback."""
    try:
        yield
    except (ServiceError, ValueError) as error:
        if not isinstance(error, ServiceError):
            from weights.data import DataError
            from weights.manifest import ModelFormatError

            if not isinstance(error, ModelFormatError | DataError):
                raise
        # torch adds a line for every tensor that does not fit.
        first_line, _, _ = str(error).partition("\n")
        typer.echo(f"error: {first_line}", err=True)
        raise typer.Exit(2) from error


def open_standard_streams() -> None:
    """Open the null device for closed standard streams, here and in child processes.

    Otherwise the next file or socket would take the stream's descriptor, be read and written as the stream, and libuv
    aborts when it is closed. Characters that standard output cannot encode are escaped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Gets the lowest free descriptor, which is the missing one.
            stream = open(os.devnull, mode)  # noqa: SIM115 - open until the end
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
