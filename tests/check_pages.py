"""The built web site in a real browser: `make site-test`, or `python tests/check_pages.py` where playwright is there.

Headless Chromium opens pages of site/build/html on a wide and on a narrow screen, light and dark. No console error, no
serious fault that axe-core finds, no sideways scrolling, and the search finds what is there. `--screenshots FOLDER`
keeps pictures of all of them; `--measure` writes the weight of three pages into docs/site.md. Nothing leaves the
machine. Without Chromium (or $CHROMIUM, its path) or axe-core, it says so and stops.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import os
import re
import shutil
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AXE = ROOT / "site" / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGES = {
    "first": "index.html",
    "chapter": "notebooks/07_parallel_decoding.html",
    "exercises": "exercises/release/ex08_guidance/ex08.html",
    "glossary": "docs/glossary.html",
    "results": "docs/results.html",
    "api": "api/minimuse.decoding.html",
    "chinese": "zh-CN/index.html",
}
MEASURED = ("first", "chapter", "api")
NARROW, WIDE = dict(width=360, height=740), dict(width=1280, height=900)
# As Lighthouse measures a telephone: four times slower, 1.6 Mbit/s, 150 ms there and back.
SLOW = dict(offline=False, latency=150, downloadThroughput=1.6e6 / 8, uploadThroughput=750e3 / 8)
SLOWER = 4
BLOCK = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- /measured -->)", re.DOTALL)


class Handler(SimpleHTTPRequestHandler):
    """Serves text compressed, as web hosts do."""

    def log_message(self, format, *args) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix not in (".html", ".css", ".js", ".svg") or not path.is_file():
            return super().do_GET()
        content = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path) + "; charset=utf-8")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Site:
    """The site on a port of this machine, in one browser."""

    def __init__(self, browser, base: str, shots: Path | None):
        self.browser, self.base, self.shots, self.wrong = browser, base, shots, []
        self.playground = False

    def open(self, path: str, viewport: dict, scheme: str = "light"):
        page = self.browser.new_page(viewport=viewport, color_scheme=scheme)
        page.route(lambda url: not url.startswith(self.base), lambda route: self.leaves(path, route))
        page.on("console", lambda message: self.says(path, message))
        page.on("pageerror", lambda error: self.wrong.append(f"{path}: the browser reports: {error}"))
        page.on("response", lambda answer: self.answers(path, answer))
        page.goto(f"{self.base}/{path}", wait_until="load")
        return page

    def leaves(self, path: str, route) -> None:
        self.wrong.append(f"{path} asks for {route.request.url}, which is outside of the site")
        route.abort()

    def says(self, path: str, message) -> None:
        if message.type == "error":
            self.wrong.append(f"{path}: the console reports: {message.text}")

    def answers(self, path: str, answer) -> None:
        if answer.status >= 400:
            self.wrong.append(f"{path}: {answer.url} answers {answer.status}")

    def keep(self, page, name: str) -> None:
        if self.shots:
            page.screenshot(path=self.shots / f"{name}.png")

    def try_page(self, name: str, path: str) -> None:
        """Faults on a wide screen, light and dark, and the width on a narrow one."""
        for scheme in ("light", "dark"):
            page = self.open(path, WIDE, scheme)
            self.keep(page, f"{name}_{scheme}")
            page.add_script_tag(path=AXE)
            found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
            for fault in found:
                if fault["impact"] in ("serious", "critical"):
                    where = "; ".join(node["html"][:120] for node in fault["nodes"][:3])
                    times = len(fault["nodes"])
                    self.wrong.append(f"{path}, {scheme}: {fault['id']}: {fault['help']} ({times} times: {where})")
            page.close()
        page = self.open(path, NARROW)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > NARROW["width"]:
            wide = page.evaluate(
                """limit => [...document.querySelectorAll("article *")]
                .filter(e => e.getBoundingClientRect().right > limit)
                .slice(0, 3).map(e => e.outerHTML.slice(0, 120))""",
                NARROW["width"],
            )
            self.wrong.append(f"{path} is {width} px wide on a screen of {NARROW['width']}: {wide}")
        self.keep(page, f"{name}_narrow")
        page.close()

    def try_dark_button(self) -> None:
        page = self.open(PAGES["chapter"], WIDE)
        colour = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
        before = colour()
        for _ in range(3):  # as the system has it, light, dark
            page.locator(".theme-toggle:visible").first.click()
            if colour() != before:
                break
        else:
            self.wrong.append(f"the button for dark mode does not change the background {before}")
        page.close()

    def try_search(self, words: str = "guidance") -> None:
        page = self.open(PAGES["first"], WIDE)
        page.locator("input[name=q]").first.fill(words)
        page.keyboard.press("Enter")
        results = page.locator("#search-results li a")
        try:
            results.first.wait_for(timeout=20_000)
            page.wait_for_timeout(1500)  # the summaries
            links = results.evaluate_all("all => all.map(link => link.getAttribute('href'))")
            if not any("08_guidance" in link for link in links):
                self.wrong.append(f"the search for {words!r} does not find chapter 08, but {links[:5]}")
            if tex := re.search(r".{20}\\ell.{20}", page.locator("#search-results").inner_text()):
                self.wrong.append(f"the search for {words!r} shows TeX: {tex[0]}")
            self.keep(page, "search")
        except Exception as error:
            self.wrong.append(f"the search for {words!r} shows nothing: {error}")
        page.close()

    def try_playground(self) -> None:
        """A click in a chapter opens it, if this site has one: narrow on a narrow screen, dark in a dark page."""
        if not self.playground:
            print("The site has no playground to open; make web builds one.")
            return
        page = self.open(PAGES["chapter"], NARROW)
        assert not page.locator("iframe").count()
        page.evaluate("document.body.dataset.theme = 'dark'")
        page.locator(".playground button").click()
        frame = page.locator(".playground iframe")
        frame.wait_for()
        caption = page.frame_locator(".playground iframe").locator("#caption")
        caption.wait_for(timeout=60_000)
        if "cat" not in caption.input_value() or not frame.get_attribute("title"):
            self.wrong.append(f"the playground in {PAGES['chapter']} has no title, or not the caption of the chapter")
        wide = caption.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        if wide > 0 or page.evaluate("document.documentElement.scrollWidth") > NARROW["width"]:
            self.wrong.append(f"the playground in {PAGES['chapter']} does not fit a screen of {NARROW['width']} px")
        colour = caption.evaluate("() => getComputedStyle(document.body).backgroundColor")
        if max(map(int, re.findall(r"\d+", colour))) > 127:
            self.wrong.append(f"the playground in a dark page has the background {colour}")
        frame.scroll_into_view_if_needed()
        self.keep(page, "playground")
        page.close()

    def try_keyboard(self) -> None:
        """The first press of Tab offers to skip the menus."""
        page = self.open(PAGES["chapter"], WIDE)
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.innerText || document.activeElement.outerHTML")
        if "Skip" not in focused:
            self.wrong.append(f"the first Tab reaches {focused[:80]!r}, and no link that skips the menus")
        page.close()

    def measure(self, path: str) -> tuple[float, float, int, int]:
        """Seconds to the first and to the largest paint, bytes and requests of a page, as a telephone loads it."""
        page = self.browser.new_page(viewport=NARROW)
        client = page.context.new_cdp_session(page)
        client.send("Network.enable")
        client.send("Network.setCacheDisabled", dict(cacheDisabled=True))
        client.send("Network.emulateNetworkConditions", SLOW)
        client.send("Emulation.setCPUThrottlingRate", dict(rate=SLOWER))
        sizes = []
        client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.add_init_script(
            """new PerformanceObserver(list => { window.largest = list.getEntries().at(-1).startTime; })
            .observe({type: "largest-contentful-paint", buffered: true});"""
        )
        page.goto(f"{self.base}/{path}", wait_until="networkidle", timeout=120_000)
        first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
        largest = page.evaluate("window.largest") / 1000
        page.close()
        return first, largest, int(sum(sizes)), len(sizes)


def table(rows: dict[str, tuple[float, float, int, int]], about: str) -> str:
    lines = ["| page | first paint | largest paint | bytes | requests |", "| --- | --- | --- | --- | --- |"]
    for path, (first, largest, size, count) in rows.items():
        lines.append(f"| `{path}` | {first:.1f} s | {largest:.1f} s | {size / 1e6:.2f} MB | {count} |")
    return "\n".join([*lines, "", about, ""])


def weigh(site: Site) -> None:
    """Write the figures of three pages into docs/site.md."""
    rows = {}
    for name in MEASURED:
        tries = [site.measure(PAGES[name]) for _ in range(3)]
        rows[PAGES[name]] = sorted(tries)[1]
    about = f"Medians of three, {time.strftime('%Y-%m-%d')}, Chromium {site.browser.version} on {os.cpu_count()} cores."
    path = ROOT / "docs" / "site.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(BLOCK.sub(lambda _: table(rows, about), text), encoding="utf-8")
    print(table(rows, about))


def serve(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, default=ROOT / "site" / "build" / "html")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the pages")
    parser.add_argument("--measure", action="store_true", help="only measure three pages, for docs/site.md")
    args = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        print("skipped: Chromium is not installed")
        return
    if not AXE.is_file():
        print("skipped: axe-core is not installed; make site installs it with Node's npm")
        return
    if not (args.site / "index.html").is_file():
        sys.exit(f"There is no site in {args.site}; make site builds it.")
    from playwright.sync_api import sync_playwright  # make site-test installs it

    begun = time.monotonic()
    if args.screenshots:
        args.screenshots.mkdir(parents=True, exist_ok=True)
    server, base = serve(args.site)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False)  # root has none
        site = Site(browser, base, args.screenshots)
        site.playground = (args.site / "playground" / "index.html").is_file()
        if args.measure:
            weigh(site)
            done = "Measured"
        else:
            for name, path in PAGES.items():
                site.try_page(name, path)
            site.try_dark_button()
            site.try_search()
            site.try_keyboard()
            site.try_playground()
            done = f"{len(PAGES)} pages of the site work in Chromium"
        browser.close()
    server.shutdown()
    if site.wrong:
        sys.exit("\n".join(dict.fromkeys(site.wrong)))
    print(f"{done}: {time.monotonic() - begun:.0f} s.")


if __name__ == "__main__":
    main()
