"""What the dashboard shows: models of its panels, what they read, and how they look. It knows no HTTP."""
