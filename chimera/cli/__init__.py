"""The command line: one file for each noun. Nothing heavy is imported before a command runs."""
