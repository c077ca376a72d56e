"""``python -m mtkd``."""

from mtkd.cli import main

if __name__ == "__main__":
    main()
