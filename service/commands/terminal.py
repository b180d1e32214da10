"""How a command ends that the user can put right: one line and exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from service.errors import ServiceError


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print what the user can put right as one line; a traceback is for our own mistakes."""
    try:
        yield
    except ServiceError as error:
        raise _failure(error) from error
    except ValueError as error:
        from weights.data import DataError
        from weights.manifest import ModelFormatError

        if not isinstance(error, ModelFormatError | DataError):
            raise
        raise _failure(error) from error


def _failure(error: Exception) -> typer.Exit:
    # torch adds a line for every tensor that does not fit.
    first_line, _, _ = str(error).partition("\n")
    typer.echo(f"error: {first_line}", err=True)
    return typer.Exit(2)
