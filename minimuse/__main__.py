"""`python -m minimuse COMMAND`: see minimuse/cli.py."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["doctor"]:  # must speak where what the other commands import is broken
        from minimuse.teach.doctor import main
    else:
        from minimuse.cli import main
    main()
