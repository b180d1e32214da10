"""`dvt plan`: how many replicas a load needs, from measured stage times and the real scheduler on a simulated clock."""
