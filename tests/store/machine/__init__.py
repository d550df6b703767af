"""The parts of the stateful test: who acts on a tenant, and how each of their steps is checked."""
