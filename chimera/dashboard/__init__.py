"""The dashboard's pages: what stands on them, read through the stores. No Ray, no HTTP."""
