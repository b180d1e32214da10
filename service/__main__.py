"""`python -m service` is `dvt`."""

from service.cli import app

app()
