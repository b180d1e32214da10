"""What the processes of a replica write to standard error."""

import logging


def log_to_stderr(level: str) -> None:
    """Log from this level on, in one format for all processes."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
