"""`python -m minimuse COMMAND`: see minimuse/cli.py."""

import sys


def main() -> None:
    """Run the command line; the doctor does not need what the other commands import, which may be broken."""
    if sys.argv[1:] == ["doctor"]:
        from minimuse.teach.doctor import main
    else:
        from minimuse.cli import main
    main()


if __name__ == "__main__":
    main()
