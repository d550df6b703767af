"""The hub's deployments, a file each: a replica imports only what it runs."""
