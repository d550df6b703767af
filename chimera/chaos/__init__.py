"""The chaos drill: a fleet under load, faults by seed, and a checker that reads what came of it."""
