"""The gate itself, the workflows that run it elsewhere, and what it is to notice."""
