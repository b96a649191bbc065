"""Check the built web site: `python tools/check_site.py` (`make site` does).

Links inside the site, anchors included, must lead somewhere. Of addresses outside only the form is checked: nothing is
fetched. A page with its styles, scripts, fonts and pictures must stay below 1.5 MB; models and downloads do not count.
"""

from __future__ import annotations

import argparse
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LIMIT = 1_500_000
LOADED = {"img": "src", "script": "src", "source": "src", "iframe": "src"}
HOST = re.compile(r"(localhost|127\.0\.0\.1|([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,})(:\d+)?", re.IGNORECASE)
STYLED = re.compile(r"url\(\s*['\"]?([^'\")]+)")


class Page(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a")}
        if tag == "link" and "href" in values:
            loaded = {"stylesheet", "icon", "preload"} & set(values.get("rel", "").split())
            (self.loads if loaded else self.links).append(values["href"])
        elif "href" in values:
            self.links.append(values["href"])
        if "data-source" in values:  # the playground, once it is opened
            self.links.append(values["data-source"])
        if (name := LOADED.get(tag)) and name in values:
            self.loads.append(values[name])


def outside(link: str) -> bool:
    return bool(re.match(r"[a-z][a-z0-9+.-]*:|//", link, re.IGNORECASE))


def malformed(link: str) -> str | None:
    """What is wrong with the form of an address outside of the site."""
    parts = urlsplit(link)
    if parts.scheme in ("mailto", "data"):
        return None
    if parts.scheme not in ("http", "https"):
        return "has an unknown scheme"
    if not HOST.fullmatch(parts.netloc):
        return "has no valid host"
    return "has a space or a bracket" if re.search(r"[\s<>\[\]{}|\\^`]", link) else None


class Site:
    """All pages of a folder."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(self.folder.rglob("*.html"))}
        self.sizes: dict[Path, int] = {}

    def target(self, link: str, page: Path) -> Path:
        path = unquote(urlsplit(link).path)
        target = (page.parent / path).resolve() if path else page
        return target / "index.html" if target.is_dir() else target

    def problems(self) -> list[str]:
        found = []
        for page, content in self.pages.items():
            name = page.relative_to(self.folder).as_posix()
            for link in dict.fromkeys([*content.links, *content.loads]):
                if outside(link):
                    if wrong := malformed(link):
                        found.append(f"{name}: {link!r} {wrong}.")
                    continue
                target, anchor = self.target(link, page), unquote(urlsplit(link).fragment)
                if not target.is_file() or not target.is_relative_to(self.folder):
                    found.append(f"{name}: {link!r} leads to no file of the site.")
                elif target in self.pages and anchor not in self.pages[target].anchors:
                    found.append(f"{name}: {link!r} names an anchor that its page does not have.")
            if outer := [link for link in content.loads if outside(link) and not link.startswith("data:")]:
                found.append(f"{name} loads {outer[0]!r} from outside of the site.")
            if (weight := self.weight(page)) >= LIMIT:
                found.append(f"{name} weighs {weight:,} bytes; the limit is {LIMIT:,}.")
        return found

    def weight(self, page: Path) -> int:
        """Bytes of a page and of all that it loads, before compression; every font of a style counts."""
        loaded = {self.target(link, page) for link in self.pages[page].loads if not outside(link)}
        for style in [path for path in loaded if path.suffix == ".css" and path.is_file()]:
            for link in STYLED.findall(style.read_text(encoding="utf-8")):
                if not outside(link) and (path := self.target(link, style)).suffix in (".woff2", ".png", ".svg"):
                    loaded.add(path)
        return sum(self.size(path) for path in {page, *loaded})

    def size(self, path: Path) -> int:
        if path not in self.sizes:
            self.sizes[path] = path.stat().st_size if path.is_file() else 0
        return self.sizes[path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parent.parent / "site" / "build" / "html"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--heaviest", type=int, default=3, metavar="N", help="list the N heaviest pages (default: 3)")
    args = parser.parse_args()
    site = Site(args.folder)
    if not site.pages:
        sys.exit(f"There is no page in {args.folder}; make site builds the site.")
    if problems := site.problems():
        sys.exit("\n".join(problems))
    links = sum(len({*page.links, *page.loads}) for page in site.pages.values())
    total = sum(path.stat().st_size for path in site.folder.rglob("*") if path.is_file())
    print(f"{len(site.pages)} pages, {links:,} links, {total / 1e6:.1f} MB in all: links and weights are right.")
    for page in sorted(site.pages, key=site.weight, reverse=True)[: args.heaviest]:
        print(f"  {page.relative_to(site.folder).as_posix()}: {site.weight(page) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
