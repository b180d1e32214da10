"""Where numbers come from: model folders, training data, the trainer and threshold choice."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weights.store import Manifest, ModelFormatError, NamedOperatingPoint, StoredModel, load, load_model, save

__all__ = ["Manifest", "ModelFormatError", "NamedOperatingPoint", "StoredModel", "load", "load_model", "save"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line answers `--help` without loading torch.
    if name in __all__:
        from weights import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
