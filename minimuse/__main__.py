"""`python -m minimuse COMMAND`: see minimuse/cli.py."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

NO_READER = 141  # exit code of a process that ends because what it prints is not read


def main() -> None:
    """Run the command line; the doctor does not need what the other commands import, which may be broken.

    Ctrl-C ends it with exit code 130 at any time, also while it imports and where an exception would be swallowed.
    """
    # While it imports, Ctrl-C ends the process at once: an import may swallow a KeyboardInterrupt.
    usual = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT)
    hurried = usual is signal.default_int_handler  # and not ignored, as in the background of a script
    if hurried:
        signal.signal(signal.SIGINT, _end)
    if sys.argv[1:] == ["doctor"]:
        from minimuse.teach.doctor import main
    else:
        from minimuse.cli import main
    if hurried:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _ask_again
    try:
        try:
            main()
        finally:
            if sys.stdout is not None:  # as in a service, where it is closed
                sys.stdout.flush()
    except SystemExit as end:
        if end.code == 130:  # XLA's threads may still compute; to take Python apart under them can crash
            _leave()
        raise
    except BrokenPipeError:  # whoever read what is printed has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # stdout, for what Python writes there at its end
        sys.exit(NO_READER)
    except KeyboardInterrupt:  # of the doctor, or in the midst of reporting something else
        _end()


def _end(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    print("minimuse: stopped.", file=sys.stderr)
    _leave()


def _leave() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed
            pass
    os._exit(130)


def _ask_again(error: Any) -> None:
    """Python prints and forgets a KeyboardInterrupt in a callback, of the garbage collector for instance; here it comes
    again as soon as the callback is over."""
    if error.exc_type is not None and issubclass(error.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(error)


if __name__ == "__main__":
    main()
