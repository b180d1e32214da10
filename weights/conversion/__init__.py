"""Converts checkpoints of other programs to model folders."""
