"""What the processes say of themselves: JSON logs, and metrics. The tables of both are API."""
