"""``python -m chimera``: the same as ``chimera``."""

from chimera.cli.main import main

if __name__ == "__main__":
    main()
