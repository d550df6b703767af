"""The dashboard's panels: models and the queries that fill them, read through the stores."""
