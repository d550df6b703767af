"""One machine's fleet: starts, watches and ends its processes. This package itself imports nothing."""
