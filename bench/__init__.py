"""The benchmark: what Chimera itself costs, on a fleet that it starts. `make bench` runs all of it."""
