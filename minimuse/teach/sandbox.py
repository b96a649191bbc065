"""A process for code that is not trusted, and the messages between it and its owner.

On Linux it has namespaces of its own, if the system allows: no network, nothing to write to except an empty folder, and
no other processes to see. Elsewhere it is only a process with an empty folder and a limit of time.
"""

import contextlib
import ctypes
import functools
import json
import os
import queue
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

# Namespaces of its own, for network, files and processes, which end with the thread that starts it.
UNSHARE = ["setpriv", "--pdeathsig", "KILL", "unshare", "-rnmpif", "--kill-child", "--mount-proc"]
DEVICES = (b"/dev/null", b"/dev/zero", b"/dev/random", b"/dev/urandom")
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")  # of the environment; no secrets
LARGEST = 16_000_000  # bytes of a message
MEMORY, FILES = 4 << 30, 64 << 20  # bytes of memory, and of any file that is written


def send(stream: IO, mark: bytes, message: dict) -> None:
    """Write a message, which begins with `mark`."""
    content = mark + json.dumps(message).encode()
    stream.write(len(content).to_bytes(8, "big") + content)
    stream.flush()


def receive(stream: IO) -> bytes | None:
    """The next message with its mark; None at the end, and for one that is too large."""
    length = int.from_bytes(stream.read(8), "big")
    content = stream.read(length) if 0 < length <= LARGEST else b""
    return content if content and len(content) == length else None


def lock(folder: str, covered: list[str]) -> None:
    """In namespaces of our own (`unshare`): every file becomes read-only, except in `folder`, a new and empty one; the
    files and folders `covered` are empty; of the devices only DEVICES are there; and this cannot be undone. OSError if
    the system refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    bind = lambda source, target: functools.partial(libc.mount, source, target, None, 4096, None)
    empty = lambda target: functools.partial(libc.mount, b"tmpfs", target, b"tmpfs", 0, b"size=4k")
    attributes = lambda path, flags, *given: functools.partial(
        libc.syscall, 442, -100, path, flags, struct.pack("QQQQ", *given, 0, 0), 32
    )  # mount_setattr
    files = [os.fsencode(path) for path in covered if not os.path.isdir(path)]
    steps: list[Callable[[], int]] = [
        *(empty(os.fsencode(path)) for path in covered if os.path.isdir(path)),
        *(bind(b"/dev/null", path) for path in files),
        *(bind(path, path) for path in DEVICES),
        attributes(b"/", 0x8000, 5, 0),  # recursively: read-only, no devices
        *(attributes(path, 0, 0, 4) for path in (*files, *DEVICES)),
        lambda: libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 6, b"size=256m"),
        lambda: libc.prctl(38, 1, 0, 0, 0),  # no new privileges
        lambda: libc.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", 0, 0, 0, 0, 0, 0)),
    ]
    for step in steps:
        if step() != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def limit() -> None:
    """Bound memory and the size of files, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = dict(DATA=MEMORY, AS=4 * MEMORY, FSIZE=FILES, CORE=0)  # JAX maps much more than it uses
    for what, value in most.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (value, value))
        except (ValueError, OSError):  # a lower limit is set already
            continue


def channel() -> tuple[Any, Any]:
    """What stdin and stdout are connected to. From now on stdin is empty, and what is printed is lost."""
    ends = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    return ends


class Ended(BaseException):
    """The process ended or took too long. Not an Exception, so that no check catches it."""

    def __init__(self, late: bool):
        super().__init__("it had not finished in time" if late else "it ended the whole program")
        self.late = late


class Process:
    """A process for answering.py, in an empty folder."""

    def __init__(self, covered: list[str], probe: bool = False, locked: bool | None = None):
        locked = isolated() if locked is None else locked
        self._folder = tempfile.TemporaryDirectory(prefix="answers-", ignore_cleanup_errors=True)
        folder = self._folder.name
        own = dict(HOME=folder, TMPDIR=folder, TEMP=folder, MPLBACKEND="agg", JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1")
        own |= dict(JAX_DISABLE_MOST_OPTIMIZATIONS="1")  # most time is compiling
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *map(os.path.abspath, given)])
        command = [sys.executable, "-P", "-B", "-m", "minimuse.teach.answering"]
        self._process = subprocess.Popen(
            [*UNSHARE, *command] if locked else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={key: os.environ[key] for key in KEPT if key in os.environ} | own | dict(PYTHONPATH=path),
            start_new_session=True,
        )
        self.killed = False
        self._frames: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._inward, self._outward = self._process.stdin, self._process.stdout
        self._inside: int | None = None  # a descriptor of the process that `unshare` starts
        first = dict(folder=folder, covered=[*filter(os.path.exists, covered)], locked=locked, probe=probe)
        with contextlib.suppress(OSError):
            self._inward.write(json.dumps(first).encode() + b"\n")
            self._inward.flush()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._frames.put(self._outward.readline())
            while (frame := receive(self._outward)) is not None:
                self._frames.put(frame)
        self._frames.put(None)

    def started(self, seconds: float = 60.0) -> bool:
        """Whether it has begun, and could isolate itself."""
        with contextlib.suppress(queue.Empty):
            begun = self._frames.get(timeout=seconds) == b"\n"
            with contextlib.suppress(OSError, AttributeError, IndexError):  # only Linux has it, and needs it
                pid = self._process.pid
                child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
                self._inside = os.pidfd_open(int(child))
            return begun
        return False

    def ask(self, request: dict, seconds: float, reply: Callable[[dict], dict] | None = None) -> dict:
        """Its reply to a request; Ended without one in time. `reply` answers what it asks meanwhile."""
        mark, end = secrets.token_bytes(16), time.monotonic() + seconds
        timer = threading.Timer(max(seconds, 0.0), self.kill)  # also where it does not read what is written
        timer.daemon = True
        timer.start()
        try:
            while True:
                send(self._inward, mark, request)
                frame = self._frames.get(timeout=max(end - time.monotonic(), 0.01))
                if frame is None or frame[:16] != mark or not isinstance(message := json.loads(frame[16:]), dict):
                    raise ValueError("not a reply to this request")
                if "ask" not in message or reply is None:
                    return message
                request = reply(message)
        except (OSError, ValueError, RecursionError, queue.Empty):
            self.kill()
            raise Ended(late=time.monotonic() > end - 0.05) from None
        except BaseException:
            self.kill()
            raise
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End it and all that it started, as far as the system allows."""
        self.killed = True
        if self._inside is not None:  # it may have left the group, and asked not to end with its parent
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._inside, signal.SIGKILL)
        with contextlib.suppress(OSError, AttributeError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def close(self) -> None:
        """End it, and delete its folder."""
        self.kill()
        self._process.wait()
        if self._inside is not None:
            os.close(self._inside)
            self._inside = None
        with contextlib.suppress(OSError):
            self._inward.close()
        self._folder.cleanup()


@functools.cache
def isolated() -> bool:
    """Whether this system lets answers run without network, and without writing to files (Linux namespaces)."""
    try:
        process = Process([], probe=True, locked=True)
    except OSError:
        return False
    try:
        return process.started()
    finally:
        process.close()
