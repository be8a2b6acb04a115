"""The web site of the documentation: every page is in it, no link is broken, nothing is fetched from elsewhere."""

import importlib.util
import subprocess
import sys
import xml.etree.ElementTree

import pytest

import harness

spec = importlib.util.spec_from_file_location("site_tool", harness.ROOT / "tools/site.py")
site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)
PLACES = {harness.ROOT / "README.md": "index.md", harness.ROOT / "docs/live.md": "live.md"}


@pytest.mark.parametrize(
    "page, text, expected",
    [
        ("README.md", "see [live](docs/live.md#wait) and [it](docs/live.md)", "see [live](live.md#wait) and [it](live.md)"),
        ("README.md", "[order.py](runtime/pyrunc/engine/order.py)", "order.py"),
        (
            "docs/live.md",
            "[home](../README.md), [here](#wait), [web](https://example.org/)",
            "[home](index.md), [here](#wait), [web](https://example.org/)",
        ),
        ("docs/live.md", "```\n[a](../README.md)\n```\n", "```\n[a](../README.md)\n```\n"),
        ("docs/live.md", "![a](images/a.svg)", "![a](images/a.svg)"),
        ("docs/live.md", "[`x`](../README.md)", "[`x`](index.md)"),
    ],
)
def test_links_are_rewritten(page, text, expected):
    assert site.rewritten(text, harness.ROOT / page, PLACES) == expected


def test_the_check_finds_what_is_wrong(tmp_path):
    html = tmp_path / "html"
    html.mkdir()
    (html / "a.html").write_text('<a href="b.html">x</a> <a href="b.html#there">x</a> <a href="#no">x</a> <p id="p"> <a href="#p">')
    (html / "b.html").write_text(
        '<p id="there"> <a href="c.html">x</a> <script src="https://example.org/x.js"></script> <a href="https://example.org/">x</a>'
        '<link rel="stylesheet" href="c.css">'
    )
    assert sorted(site.problems(html)) == [
        "a.html: nothing is called #no",
        "b.html: c.css is not there",
        "b.html: c.html is not there",
        "b.html: fetches https://example.org/x.js",
    ]


def test_every_page_is_in_the_navigation():
    places = site.pages()
    text = site.navigation(places)
    assert [name for name in places.values() if text.count("- %s\n" % name) != 1] == []
    assert {name for _title, listed in site.NAVIGATION for name in listed} <= set(places.values())


@pytest.mark.parametrize("name", sorted(path.name for path in (harness.ROOT / "docs/images").glob("*.svg")))
def test_diagrams(name):
    """They are complete documents with a title and description for those who cannot see them, and each is shown on a page."""
    root = xml.etree.ElementTree.parse(harness.ROOT / "docs/images" / name).getroot()
    tag = "{http://www.w3.org/2000/svg}"
    assert root.tag == tag + "svg" and root.find(tag + "title").text and root.find(tag + "desc").text
    assert any("(images/%s)" % name in page.read_text() for page in (harness.ROOT / "docs").glob("*.md"))


@pytest.mark.slow
def test_the_site(tmp_path):
    if importlib.util.find_spec("material") is None:
        pytest.skip("no mkdocs-material in this environment: make .stamps/tools")
    tool = [sys.executable, str(harness.ROOT / "tools/site.py")]
    made = subprocess.run([*tool, tmp_path / "site"], capture_output=True, text=True)
    assert made.returncode == 0 and made.stderr == "", made
    checked = subprocess.run([*tool, "--check", tmp_path / "site"], capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stderr == "", checked
    home = (tmp_path / "site/html/index.html").read_text()
    assert all('href="%s"' % place.replace(".md", ".html") in home for place in site.pages().values() if place != "index.md")
