"""The explorers in a real browser: `make browser`, or `python tests/check_browser.py` where playwright is installed.

JupyterLab serves a copy of minimuse from a folder whose path has spaces and non-ASCII letters. Headless Chromium opens
chapters 00, 06, 07 and 11, runs their cells up to the last explorer (`make test` runs all), and operates the explorers
by keyboard and by mouse: the picture must follow, the focus must stay, and neither kernel nor browser may report an
error. `--screenshots FOLDER` keeps a picture of each explorer; `06 07` tries only these chapters. Without Chromium (or
$CHROMIUM, its path), it says so and stops.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_lab import ask, free_port, stop

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 1200  # seconds for each wait; chapters take long on a busy machine
# Errors of the browser that are not ours, by the address that they are about.
ALLOWED = ("https://colab.research.google.com/assets/colab-badge.svg",)  # this test lets nothing leave the machine
FOCUSED = "element => element === document.activeElement"
CHAPTERS = {
    "00": {"first_pictures": ("keys Steps", "mouse Guidance t", "press Next seed")},
    "06": {"schedule_explorer": ("keys Steps T", "mouse Steps T", "menu Second schedule")},
    "07": {"decode_theatre": ("keys Step", "mouse Step", "menu Order")},
    "11": {
        "editing_desk": ("desk Draw", "press Undo"),
        "mask_free_editor": ("keys Iteration", "mouse Iteration"),
    },
}


class Chapter:
    """A chapter in JupyterLab, in a page of its own."""

    def __init__(self, browser, base: str, token: str):
        self.base, self.token, self.wrong = base, token, []
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.page.on("console", self.on_console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"the browser reports: {error}"))
        self.page.on("websocket", lambda socket: socket.on("framereceived", self.on_message))
        self.page.route(lambda url: not url.startswith(base), lambda route: route.abort())

    def on_console(self, message) -> None:
        if message.type == "error" and message.location.get("url") not in ALLOWED:
            self.wrong.append(f"the browser's console reports: {message.text} ({message.location.get('url')})")

    def on_message(self, message) -> None:
        """A message of the kernel: errors of cells, and those of controls, which JupyterLab hides."""
        message = message if isinstance(message, bytes) else message.encode()
        if re.search(rb'"msg_type":\s*"error"', message):
            said = re.search(rb'"ename":\s*"(.*?)",\s*"evalue":\s*"(.*?)"', message)
            self.wrong.append(f"the kernel reports: {b': '.join(said.groups()).decode() if said else message!r}")

    def wait(self, done, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not done() and not self.wrong:
            assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
            self.page.wait_for_timeout(50)
        assert not self.wrong, "; ".join(self.wrong)

    def wait_for_kernel(self) -> None:
        indicator = self.page.locator(".jp-Notebook-ExecutionIndicator")
        self.wait(lambda: indicator.get_attribute("data-status") == "idle", "the kernel to be idle")

    def open(self, path: Path) -> None:
        self.cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        self.page.goto(f"{self.base}/lab/tree/notebooks/{path.name}?token={self.token}&reset")
        shown = self.page.locator(".jp-Notebook .jp-Cell")
        self.wait(lambda: shown.count() == len(self.cells), "all cells to show")
        name = self.page.locator(".jp-Toolbar-kernelName")  # without one, JupyterLab asks which to use
        self.wait(lambda: "Python" in name.inner_text(), "a kernel")
        self.wait_for_kernel()

    def run(self) -> None:
        """All cells, by the menu. They count from 1, so the number of the last one shows that all of them ran."""
        last = self.page.locator(".jp-CodeCell .jp-InputPrompt").last
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.wait(lambda: last.inner_text() == "[*]:", "the cells to begin")
        number = sum(cell["cell_type"] == "code" for cell in self.cells)
        self.wait(lambda: last.inner_text() == f"[{number}]:", "the last cell to end")
        self.wait_for_kernel()

    def explore(self, name: str, actions) -> None:
        """Do all actions in the explorer `explorers.name(...)`; the picture must follow each."""
        sources = ["".join(cell["source"]) for cell in self.cells]
        place = next(i for i, source in enumerate(sources) if re.search(rf"^explorers\.{name}\(", source, re.MULTILINE))
        self.box = self.page.locator(".jp-Notebook .jp-Cell").nth(place).locator(".jp-OutputArea-output").first
        for action in actions:
            begun = time.monotonic()
            self.act(*action.split(" ", 1))
            print(f"  {name}: {action}: {time.monotonic() - begun:.1f} s", flush=True)

    def act(self, kind: str, label: str) -> None:
        before = self.picture()
        target = getattr(self, kind)(label)
        self.wait(lambda: self.picture() not in ("", before), f"the picture to follow {kind} {label}")
        self.wait_for_kernel()
        assert target.evaluate(FOCUSED), f"the focus went elsewhere after {kind} {label}"

    def picture(self) -> str:
        """The picture and its sentence, which differs even where another setting gives the same picture."""
        # At one go: between two questions the picture may be replaced.
        of = "(box, name) => [...box.querySelectorAll(name)].map(one => one.src ?? one.innerText)"
        images, words = self.box.evaluate(f"box => ['img', 'pre'].map(name => ({of})(box, name))")
        return images[0] + " ".join(words) if len(images) == 1 else ""

    def tab_to(self, target) -> None:
        """Go there as one without a mouse does, from the explorer's first control."""
        self.box.locator("input, select, [role=slider], button").first.focus()
        for _ in range(100):
            if target.evaluate(FOCUSED):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError("Tab does not lead to every control")

    def slider(self, label: str):
        return self.box.get_by_role("slider", name=label, exact=True)

    def keys(self, label: str):
        """Move a slider by an arrow key."""
        self.tab_to(handle := self.slider(label))
        self.page.keyboard.press("ArrowUp")
        return handle

    def mouse(self, label: str):
        """Drag a slider to four fifths of its way."""
        handle = self.slider(label)
        handle.scroll_into_view_if_needed()
        rail = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]").bounding_box()
        start = handle.bounding_box()
        y = start["y"] + start["height"] / 2
        self.page.mouse.move(start["x"] + start["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(rail["x"] + 0.8 * rail["width"], y, steps=8)
        self.page.mouse.up()
        return handle

    def menu(self, label: str):
        """Choose the neighbour of what a menu shows."""
        self.tab_to(menu := self.box.get_by_label(label, exact=True))
        self.page.keyboard.press("ArrowUp" if menu.evaluate("e => e.selectedIndex") else "ArrowDown")
        return menu

    def press(self, label: str):
        """Press a button by Space."""
        self.tab_to(button := self.box.get_by_role("button", name=label, exact=True))
        self.page.keyboard.press("Space")
        return button

    def desk(self, label: str):
        """Choose positions of the editing desk in every way, and draw them."""
        chosen = self.box.get_by_role("button", name="x", exact=True)
        chosen_are = lambda n: self.wait(lambda: chosen.count() == n, f"{n} positions to be chosen")
        self.press("row 4, column 4")
        self.page.keyboard.press("x")  # must not reach JupyterLab, which would cut the cell
        chosen_are(1)
        self.page.keyboard.press("Space")  # the focus is still there
        chosen_are(0)
        self.box.get_by_role("button", name="row 4, column 4", exact=True).click()
        chosen_are(1)
        self.press("Choose box")
        chosen_are(25)
        button = self.press("Draw")
        chosen_are(0)
        return button

    def close(self) -> None:
        """Close the page and its kernel, which holds a gigabyte."""
        header = {"Authorization": f"token {self.token}"}
        for session in json.loads(ask(f"{self.base}/api/sessions", self.token)):
            self.page.request.delete(f"{self.base}/api/sessions/{session['id']}", headers=header)
        self.page.close()


def shorten(path: Path, explorers: dict) -> None:
    """Leave out the cells after the last of the explorers."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    calls = re.compile(rf"^explorers\.({'|'.join(explorers)})\(", re.MULTILINE)
    last = max(i for i, cell in enumerate(notebook["cells"]) if calls.search("".join(cell["source"])))
    del notebook["cells"][last + 1 :]
    path.write_text(json.dumps(notebook), encoding="utf-8")


def try_chapter(chapter: Chapter, path: Path, explorers: dict, folder: Path, keep: bool) -> None:
    begun, number = time.monotonic(), path.name[:2]
    try:
        chapter.open(path)
        chapter.run()
        print(f"{path.name}: opened and run in {time.monotonic() - begun:.0f} s", flush=True)
        for name, actions in explorers.items():
            chapter.explore(name, actions)
            if keep:
                chapter.page.screenshot(path=folder / f"{number}_{name}.png")
    except Exception as error:
        chapter.page.screenshot(path=folder / f"{number}_failed.png")
        sys.exit(f"{path.name}: {error}\nA picture of the page: {folder / f'{number}_failed.png'}")
    chapter.close()


def serve(folder: Path, token: str):
    """JupyterLab on a copy of minimuse in a folder: its process and address."""
    for part in ("minimuse", "data", "notebooks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    settings = folder / "jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # it would ask, and cover the page
    # PYTHONPATH comes before what is installed: the copy reads the copy's data.
    env = os.environ | dict(PYTHONPATH=str(folder), JUPYTER_CONFIG_DIR=str(folder / "jupyter"), JAX_PLATFORMS="cpu")
    env.pop("MINIMUSE_DATA", None)
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, stdout=log, stderr=log)
    base, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    while True:
        try:
            ask(f"{base}/api/status", token)
            return server, base
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                stop(server)
                sys.exit(f"JupyterLab did not start:\n{(folder / 'log.txt').read_text()}")
            time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="chapter", help=f"of {', '.join(CHAPTERS)} (default: all)")
    parser.add_argument("--screenshots", type=Path, help="a folder for a picture of every explorer")
    args = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        print("skipped: Chromium is not installed")
        return
    from playwright.sync_api import sync_playwright  # `make browser` installs it

    shots, begun, token = args.screenshots or Path(tempfile.mkdtemp()), time.monotonic(), secrets.token_hex(16)
    shots.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # stops JupyterLab, too
    chosen = {number: CHAPTERS[number] for number in args.chapters or CHAPTERS}
    temporary = tempfile.TemporaryDirectory(prefix="minimuse Übungen 習作 ", ignore_cleanup_errors=True)
    with temporary as name, sync_playwright() as playwright:
        folder = Path(name).resolve()
        server, base = serve(folder, token)
        try:
            browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False)  # root has none
            for number, explorers in chosen.items():
                (path,) = (folder / "notebooks").glob(f"{number}_*.ipynb")
                shorten(path, explorers)
                try_chapter(Chapter(browser, base, token), path, explorers, shots, bool(args.screenshots))
            browser.close()
        finally:
            stop(server)
    print(f"Chapters {', '.join(chosen)} work in Chromium: {time.monotonic() - begun:.0f} s.")


if __name__ == "__main__":
    main()
