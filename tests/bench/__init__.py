"""The benchmark's own arithmetic, and what it writes."""
