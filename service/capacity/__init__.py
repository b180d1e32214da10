"""How fast a model's stages are on this machine, and how many replicas a demand needs."""
