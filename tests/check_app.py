"""The app in a real browser: `make browser-app`, or `python tests/check_app.py` where gradio and playwright are there.

`python -m minimuse app` serves a page; headless Chromium draws, chooses a picture, paints over a part of it and draws
that again, extends it, and edits it. The page must ask nothing of any other address, the browser must report no error,
and the server must end with Ctrl-C. `--screenshots FOLDER` keeps a picture of each step. Without Chromium (or
$CHROMIUM, its path) or gradio, it says so and stops.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_lab import free_port, stop

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 600  # seconds for each wait; a busy machine takes long to compile
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


def serve(log: Path):
    """The command, and the address that it prints."""
    command = [sys.executable, "-m", "minimuse", "app", "--no-browser", "--port", str(free_port())]
    env = os.environ | dict(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    with open(log, "w") as file:
        server = subprocess.Popen(command, env=env, start_new_session=True, stdout=file, stderr=file, preexec_fn=heard)
    end = time.monotonic() + PATIENCE
    while not (found := ADDRESS.search(log.read_text())):
        if server.poll() is not None or time.monotonic() > end:
            stop(server)
            sys.exit(f"The app did not start:\n{log.read_text()}")
        time.sleep(0.1)
    return server, found[0]


class Page:
    """The page, and what went wrong on it."""

    def __init__(self, browser, address: str, shots: Path | None):
        self.wrong, self.shots, self.number = [], shots, 0
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.page.set_default_timeout(PATIENCE * 1000)
        own = (address, "data:", "blob:", "about:")
        self.page.on("request", lambda r: r.url.startswith(own) or self.wrong.append(f"the page asked for {r.url}"))
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(f"the console reports: {m.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"the browser reports: {error}"))
        self.page.goto(address)
        self.page.get_by_role("button", name="Draw", exact=True).wait_for()

    def step(self, name: str, seconds: float) -> None:
        self.number += 1
        if self.shots:
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=self.shots / f"{self.number}_{name}.png")
        print(f"  {name}: {seconds:.1f} s", flush=True)
        assert not self.wrong, "; ".join(self.wrong)

    def press(self, name: str, words: str) -> None:
        """Press a button and wait for the sentence below it."""
        begun = time.monotonic()
        self.page.get_by_role("button", name=name, exact=True).click()
        self.page.get_by_text(re.compile(words)).first.wait_for()
        self.step(name.replace(" ", "_").lower(), time.monotonic() - begun)

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def paint(self) -> None:
        """A stroke over the middle of the picture in the editor."""
        canvas = self.page.locator("canvas").first
        canvas.wait_for()
        self.page.wait_for_timeout(1500)  # the picture appears after the canvas
        box = canvas.bounding_box()
        at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])
        self.page.mouse.move(*at(0.4, 0.5))
        self.page.mouse.down()
        self.page.mouse.move(*at(0.6, 0.55), steps=10)
        self.page.mouse.up()
        self.page.wait_for_timeout(800)  # the stroke is sent


def try_it(page: Page) -> None:
    page.step("opened", 0)
    page.press("Draw", r"^4 pictures of 128 x 128 pixels, seed 0")
    page.page.locator(".gallery img").first.click()
    page.page.get_by_text("Chosen:").wait_for()
    page.open("Inpaint")
    page.paint()
    page.step("painted", 0)
    page.press("Draw what is painted over", r"^1 picture of 128 x 128 pixels, seed 0")
    page.open("Outpaint")
    page.press("Extend", r"^1 picture of 192 x 128 pixels, seed 0")
    page.open("Edit")
    page.page.locator("textarea").first.fill("a cat left of a dog on a white background")
    page.press("Change it to match the caption", r"^1 picture of 128 x 128 pixels, seed 0")
    pictures = page.page.locator(".gallery img").count()
    assert pictures == 1 + 7, f"1 new picture and 7 in the history, not {pictures} together"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screenshots", type=Path, help="a folder for a picture of every step")
    args = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    for what, there in dict(Chromium=chromium, gradio=importlib.util.find_spec("gradio")).items():
        if not there:
            print(f"skipped: {what} is not installed")
            return
    from playwright.sync_api import sync_playwright  # `make browser-app` installs it

    if args.screenshots:
        args.screenshots.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        log = Path(folder) / "log.txt"
        server, address = serve(log)
        page = None
        try:
            browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False)  # root has none
            page = Page(browser, address, args.screenshots)
            try_it(page)
            browser.close()
            page = None
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 130, f"Ctrl-C ended it with {server.returncode}"
        except Exception as error:
            failed = (args.screenshots or Path(tempfile.mkdtemp())) / "failed.png"
            if page:
                page.page.screenshot(path=failed)
            sys.exit(f"The app: {error}\nA picture of the page: {failed}\n{log.read_text()[-3000:]}")
        finally:
            stop(server)
    print(f"The app works in Chromium: {time.monotonic() - begun:.0f} s.")


if __name__ == "__main__":
    main()
