"""How weights made elsewhere become a model folder of ours."""
