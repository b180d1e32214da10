"""Serving: when a stage runs (`engine`), how it is asked for (`http`), the command line, and `Classifier`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.classified_image import ClassifiedImage
    from service.classifier import Classifier

__all__ = ["ClassifiedImage", "Classifier"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a front end imports `service` and must not load torch.
    if name == "Classifier":
        from service.classifier import Classifier

        return Classifier
    if name == "ClassifiedImage":
        from service.classified_image import ClassifiedImage

        return ClassifiedImage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
