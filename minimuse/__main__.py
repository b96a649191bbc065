"""`python -m minimuse`: see cli.py."""

from minimuse.cli import main

if __name__ == "__main__":
    main()
