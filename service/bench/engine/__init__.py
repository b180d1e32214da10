"""The engine beside the ways of doing without it."""
