"""Start `make lab` as a reader would, check that it serves chapter 00, and stop it: `python tests/check_lab.py`.

Needs only Python. Variables such as VENV and PYTHON reach make through the environment.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "notebooks/00_first_pictures.ipynb"
PATIENCE = 600  # seconds; the first start installs


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(url: str, token: str = "") -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
    # The server runs on this machine: use no proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return answer.read()


def stop(server: subprocess.Popen) -> None:
    """End the server and everything it started: they share a process group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
        except ProcessLookupError:
            break
        end = time.monotonic() + 15
        while time.monotonic() < end:
            server.poll()
            try:
                os.killpg(server.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.2)


def main() -> None:
    port, token, begun = free_port(), secrets.token_hex(16), time.monotonic()
    flags = f"--IdentityProvider.token={token} --ServerApp.port_retries=0"
    command = ["make", "lab", "BROWSER=0", f"PORT={port}", f"LABFLAGS={flags}"]
    server = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    base = f"http://127.0.0.1:{port}"
    try:
        while True:
            if server.poll() is not None:
                sys.exit(f"`make lab` ended with code {server.returncode} before it served chapter 00.")
            if time.monotonic() - begun > PATIENCE:
                sys.exit(f"`make lab` did not serve chapter 00 within {PATIENCE} seconds.")
            try:
                served = json.loads(ask(f"{base}/api/contents/{CHAPTER}", token))
                break
            except urllib.error.HTTPError as error:
                sys.exit(f"JupyterLab runs, but responds to {CHAPTER} with {error.code} {error.reason}.")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        assert served["type"] == "notebook" and served["content"]["cells"], "this is not chapter 00"
        page = ask(f"{base}/lab/tree/{CHAPTER}", token)
        assert b"jupyter-config-data" in page, "this is not JupyterLab's page"
        cells, seconds = len(served["content"]["cells"]), time.monotonic() - begun
        print(f"JupyterLab serves {CHAPTER} ({cells} cells) {seconds:.0f} s after `make lab`.")
    finally:
        stop(server)
    with socket.socket() as sock:
        if sock.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit("JupyterLab still answers after it was stopped.")
    print("JupyterLab is stopped.")


if __name__ == "__main__":
    main()
