"""Values and decisions: no I/O, no clock reads. The standard library and pydantic only."""
