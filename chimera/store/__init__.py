"""The only code that knows Redis: its keys, its scripts, one store for each aggregate."""
