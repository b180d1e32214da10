"""Measures a model's stages on this machine, and plans the number of replicas for a demand."""
