"""Nodes of a cluster, a process each that stays in the foreground: `chimera node head`, `worker`, `judge`."""
