"""A tenant's namespace on Kubernetes, as values: sizes decided, objects made; nothing written or asked."""
