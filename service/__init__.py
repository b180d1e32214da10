"""Serving: when a stage runs (`engine`), how it is asked for (`http`), the command line, and `Classifier`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.classification import Classification
    from service.classifier import Classifier

__all__ = ["Classification", "Classifier"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a front end imports `service` and must not load torch.
    if name == "Classifier":
        from service.classifier import Classifier

        return Classifier
    if name == "Classification":
        from service.classification import Classification

        return Classification
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
