"""Where numbers come from: model folders, training data, the trainer and threshold choice."""

from weights.store import Manifest, ModelFormatError, StoredModel, load, load_model, save

__all__ = ["Manifest", "ModelFormatError", "StoredModel", "load", "load_model", "save"]
