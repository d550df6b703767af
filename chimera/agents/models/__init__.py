"""Models: the client agents call, what calls cost, and the embedded model."""
