"""Sphinx's settings for the web site; tools/site_pages.py writes its sources, and docs/site.md describes it."""

import functools
import json
import os
import subprocess
from pathlib import Path

from docutils import nodes
from sphinx.errors import SphinxError

SITE = Path(__file__).resolve().parent

project = "minimuse"
author = "The minimuse authors"
copyright = "The minimuse authors; text and figures CC BY 4.0, code Apache-2.0"
language = "en"
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["**/.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nb_execution_mode = "off"  # stored outputs only
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
suppress_warnings = ["myst.header", "ref.python"]  # pages that begin below a first heading; names in two modules
add_module_names = False
toc_object_entries_show_parents = "hide"
copybutton_selector = "div.highlight pre"
copybutton_exclude = ".linenos, .gp, .go"

html_math_renderer = "katex"  # while the site is built: the reader's browser needs no JavaScript for formulas
html_theme = "furo"
html_title = "minimuse"
html_static_path = ["static", "build/static"]
html_extra_path = ["build/extra"]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_search_scorer = str(SITE / "static" / "search_order.js")
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}


@functools.cache
def katex(process: int) -> subprocess.Popen:
    """KaTeX in Node, one for each process of Sphinx; it ends when its input does."""
    command = ["node", str(SITE / "formulas.mjs")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")


def formula(tex: str, display: bool) -> str:
    node = katex(os.getpid())
    node.stdin.write(json.dumps(dict(tex=tex, display=display)) + "\n")
    node.stdin.flush()
    answer = json.loads(node.stdout.readline() or '{"error": "node ended"}')
    if "error" in answer:
        raise SphinxError(f"KaTeX cannot set the formula {tex!r}: {answer['error']}")
    return answer["html"]


def inline(self, node) -> None:
    self.body.append(f'<span class="math">{formula(node.astext(), display=False)}</span>')
    raise nodes.SkipNode


def block(self, node) -> None:
    self.body.append(f'<div class="math">{formula(node.astext(), display=True)}</div>')
    raise nodes.SkipNode


def finish(app, pagename, templatename, context, doctree) -> None:
    """What screen readers need: the language of a page, the level of a heading, no name that hides what is shown."""
    if pagename.startswith("zh-CN/") or pagename.endswith(".zh-CN"):
        context["language"] = "zh-CN"
    tree, body = context.get("furo_navigation_tree"), context.get("body")
    if tree:
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if body:
        context["body"] = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")


def setup(app) -> None:
    app.add_html_math_renderer("katex", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("html-page-context", finish, priority=900)  # after the theme
