"""The one place that states Chimera's version."""

__version__ = "0.1.0"
