"""Decodes images: from encoded bytes to the pixels a model reads."""
