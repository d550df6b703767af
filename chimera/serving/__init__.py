"""The Ray edge: the only importer of ray. This package itself imports nothing."""
