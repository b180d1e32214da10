"""`dvt bench`: how fast the engine and the server are, told as ratios of figures taken in one run."""
