#!/usr/bin/python3
"""`make site`: the documentation as a web site, from docs/ and the pages at the top of the tree, with mkdocs-material.

    site.py DIRECTORY           writes DIRECTORY/pages, DIRECTORY/mkdocs.yml and DIRECTORY/html; every doubtful link is a failure
    site.py --check DIRECTORY   looks at DIRECTORY/html: links and anchors that lead nowhere, and anything that a browser would fetch from
                                elsewhere; a line each, status 1

Pages are copied, since some stand outside docs/: a link between two pages goes to the page's new place, a link to a file that is no
page becomes its text. Runs with the interpreter that has mkdocs-material (tools/requirements-test.txt).
"""

from __future__ import annotations

import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP = {
    "README.md": "index.md",
    **{name + ".md": name.lower() + ".md" for name in ("ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG")},
}
# The navigation. Pages of docs/ that are not listed here are added under the last heading.
NAVIGATION = (
    ("", ("index.md", "first-bundle.md", "migrating.md", "troubleshooting.md")),
    (
        "Using it",
        (
            "commands.md",
            "bundles.md",
            "rootless.md",
            "live.md",
            "checkpoints.md",
            "annotations.md",
            "deviations.md",
            "peers.md",
            "deployment.md",
            "seccomp-sweep.md",
            "kubernetes.md",
            "service.md",
            "metrics.md",
            "lsm.md",
            "support.md",
            "callers.md",
        ),
    ),
    ("From Python", ("python.md",)),
    ("How it works", ("how-it-works.md", "reading.md", "timetable.md", "properties.md", "architecture.md")),
    ("The project", ("contributing.md", "testing.md", "security.md", "changelog.md")),
    ("More", ()),
)
CONFIG = """\
site_name: pyrunc
site_description: an OCI container runtime in Python
docs_dir: %(directory)s/pages
site_dir: %(directory)s/html
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.sections, navigation.top, toc.follow, content.code.copy]
  palette:
    - {media: "(prefers-color-scheme: light)", scheme: default, toggle: {icon: material/weather-night, name: dark}}
    - {media: "(prefers-color-scheme: dark)", scheme: slate, toggle: {icon: material/weather-sunny, name: light}}
plugins:
  - search
markdown_extensions:
  - tables
  - toc: {permalink: true, slugify: !!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}}
  - pymdownx.highlight: {use_pygments: true}
  - pymdownx.superfences
validation:
  nav: {omitted_files: warn, not_found: warn, absolute_links: warn}
  links: {not_found: warn, anchors: warn, absolute_links: warn, unrecognized_links: warn}
nav:
"""


def pages() -> dict[pathlib.Path, str]:
    """{path in the tree: name on the site}"""
    found = {ROOT / name: place for name, place in TOP.items()}
    found.update({path: path.name for path in sorted((ROOT / "docs").glob("*.md"))})
    return found


def rewritten(text: str, page: pathlib.Path, places: Mapping[pathlib.Path, str]) -> str:
    """The text of a page with its links changed for the site. Code blocks are not changed."""

    def link(match: re.Match[str]) -> str:
        words, target = match.group(1), match.group(2)
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not name or words.startswith("!"):
            return match[0]
        place = places.get((page.parent / name).resolve())
        return "[%s](%s%s)" % (words, place, "#" + anchor if anchor else "") if place else str(words)

    pieces = re.split(r"(^```.*?^```\n?)", text, flags=re.M | re.S)
    pattern = r"(?<!!)\[([^\]\[]*(?:`[^`]*`[^\]\[]*)*)\]\(([^)\s]+)\)"
    return "".join(piece if piece.startswith("```") else re.sub(pattern, link, piece) for piece in pieces)


def navigation(places: Mapping[pathlib.Path, str]) -> str:
    """The nav of mkdocs.yml."""
    names = set(places.values())
    known = {name for _title, listed in NAVIGATION for name in listed}
    lines = []
    for title, pages_listed in NAVIGATION:
        listed = [name for name in pages_listed if name in names] if title != "More" else sorted(names - known)
        if title and listed:
            lines.append("  - %s:" % title)
        lines += ["%s- %s" % ("      " if title else "  ", name) for name in listed]
    return "\n".join(lines) + "\n"


def stage(directory: pathlib.Path) -> None:
    target = directory / "pages"
    shutil.rmtree(directory, ignore_errors=True)
    target.mkdir(parents=True)
    places = pages()
    for page, place in places.items():
        (target / place).write_text(rewritten(page.read_text(), page, places))
    shutil.copytree(ROOT / "docs/images", target / "images")
    (directory / "mkdocs.yml").write_text(CONFIG % {"directory": directory} + navigation(places))


class Page(html.parser.HTMLParser):
    """The links and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if given.get("id"):
            self.names.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("href") and given.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(given["href"])
        elif given.get("src"):
            self.fetched.append(given["src"])


def problems(directory: pathlib.Path) -> Iterator[str]:
    """The broken links of the finished site, and external resources that it would load."""
    read = {}
    for path in sorted(directory.rglob("*.html")):
        read[path] = Page()
        read[path].feed(path.read_text())
    for path, page in read.items():
        shown = path.relative_to(directory)
        for target in page.links + page.fetched:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.fetched and parts.scheme != "data":
                    yield "%s: fetches %s" % (shown, target)
                continue
            if path.name == "404.html":  # its links are relative to the server's root
                continue
            file = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            anchor = urllib.parse.unquote(parts.fragment)
            if not file.exists():
                yield "%s: %s is not there" % (shown, target)
            elif anchor and file in read and anchor not in read[file].names:
                yield "%s: nothing is called %s" % (shown, target)


def main(argv: list[str]) -> int:
    if argv[:1] == ["--check"] and len(argv) == 2:
        found = list(problems(pathlib.Path(argv[1]).resolve() / "html"))
        print("\n".join(found), end="\n" if found else "", file=sys.stderr)
        return 1 if found else 0
    if len(argv) != 1 or argv[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 1
    directory = pathlib.Path(argv[0]).resolve()
    stage(directory)
    argv = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", str(directory / "mkdocs.yml")]
    done = subprocess.run(argv, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    if done.returncode == 0:
        print("%s/html/index.html" % directory)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
