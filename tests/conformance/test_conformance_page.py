"""The HTML report in a real browser: at desktop and telephone widths, in light and dark mode."""

import browser
import pytest

import harness
from oci_conformance import report

pytestmark = [pytest.mark.slow, pytest.mark.long]
WIDTHS = {"desk": 1280, "telephone": 390, "small telephone": 320}

# All visible text and its problems. Colours are blended with their background.
LOOK = """(() => {
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = t => { const n = t.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (c, b) => [0, 1, 2].map(i => c[i] * c[3] + b[i] * (1 - c[3]));
  const behind = e => { const c = parse(getComputedStyle(e).backgroundColor); return c[3] === 1 || !e.parentElement ? c
    : over(c, behind(e.parentElement)); };
  const wrong = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walker.nextNode(); n; n = walker.nextNode()) {
    const e = n.parentElement, words = n.data.trim();
    if (!words || !e.checkVisibility()) continue;
    const s = getComputedStyle(e), b = behind(e), c = over(parse(s.color), b);
    const [x, y] = [light(c), light(b)].sort((p, q) => q - p);
    if ((x + 0.05) / (y + 0.05) < 4.5) wrong.push("contrast: " + words.slice(0, 40));
    if (parseFloat(s.fontSize) < 12) wrong.push("small: " + words.slice(0, 40));
    const r = document.createRange(); r.selectNodeContents(n);
    if (r.getBoundingClientRect().right > innerWidth + 1) wrong.push("outside: " + words.slice(0, 40));
  }
  return [...new Set(wrong)].slice(0, 20);
})()"""


@pytest.fixture(scope="module")
def page():
    path = browser.find()
    if path is None:
        pytest.skip("this machine has no Chromium")
    with browser.Browser(path) as opened:
        yield opened


@pytest.fixture
def nasty(made, tmp_path):
    """A page with every verdict, and with anything that a runtime could print to break it."""
    path = tmp_path / "report.html"
    made.results[1].config = {"process": {"args": ["x" * 3000]}, "hostname": "n" * 200}
    report.write(made, "html", str(path))
    return path


def looked_at(page, path, width, dark):
    page.open("file://%s" % path, width, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    assert page.evaluate(LOOK) == []
    assert page.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_reads_well(page, nasty, width, dark):
    looked_at(page, nasty, width, dark)


def test_links_unfold_the_evidence(page, nasty):
    page.open("file://%s" % nasty, 390)
    known = "document.querySelector('a.pill.known')"
    target = "document.getElementById(decodeURIComponent(%s.hash.slice(1)))" % known
    assert page.evaluate("%s.checkVisibility()" % target) is False, "known deviations are folded"
    page.evaluate("%s.closest('details').open = true" % known)
    page.evaluate("%s.click()" % known)
    assert page.evaluate("new Promise(done => setTimeout(() => done(%s.checkVisibility()), 100))" % target) is True
    dead = "[...document.querySelectorAll('a')].filter(a => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).length"
    assert page.evaluate(dead) == 0


def test_only_failures_are_shown_on_request(page, nasty):
    page.open("file://%s" % nasty, 1280)
    shown = "[...document.querySelectorAll('details.section')].filter(d => d.checkVisibility()).length"
    before = page.evaluate(shown)
    page.evaluate("document.getElementById('odd').click()")
    assert 0 < page.evaluate(shown) == page.evaluate("document.querySelectorAll('details.section:is(.bad,.odd)').length") < before


def test_description_of_a_failure(page, nasty):
    page.open("file://%s" % nasty, 1280)
    text = page.evaluate("document.getElementById('runc-state.bad').closest('details').innerText")
    for words in ("The state has pid", "expected:", "seen:", "<script>alert(1)</script>", "last calls", "configuration"):
        assert words in text, (words, text)
    assert "cannot be tested" in page.evaluate("document.body.innerText")


@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_of_the_bench(page, width, dark):
    """Wide tables and plots scroll separately; the page does not."""
    page.open((harness.ROOT / "docs/bench.html").as_uri(), width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [words for words in page.evaluate(LOOK) if not words.startswith("outside: ")] == []
    boxes = "[...document.querySelectorAll('body > *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    assert page.evaluate(boxes) == 0 and page.complaints() == []
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (shade < 64) if dark else (shade > 192)
    ends = "[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash) !== null)"
    assert set(page.evaluate(ends)) == {True}


@pytest.mark.parametrize("name", ["life", "walk"])
def test_diagrams_on_a_phone(page, tmp_path, name):
    """As images, they are not wider than the page on a phone, and their text is large enough."""
    path = tmp_path / "page.html"
    source = (harness.ROOT / ("docs/images/%s.svg" % name)).as_uri()
    path.write_text("<!doctype html><meta name=viewport content='width=device-width'><img style='max-width:100%%' src='%s'>" % source)
    page.open(path.as_uri(), 390)
    shown = page.evaluate("document.querySelector('img').getBoundingClientRect().width / document.querySelector('img').naturalWidth")
    page.open(source, 1280)
    sizes = page.evaluate("[...document.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize))")
    box = "(e => e.getBoundingClientRect())"
    inside = "[...document.querySelectorAll('text')].every(t => %s(t).left >= 0 && %s(t).right <= %s(document.documentElement).right)"
    inside %= (box, box, box)
    assert min(sizes) * shown >= 10 and page.evaluate(inside)


@pytest.mark.kernel
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_whole_run_reads_well(page, whole_run, width):
    _, found, path = whole_run
    looked_at(page, path, width, dark=False)
    labels = page.evaluate("[...document.querySelectorAll('.runtime b')].map(b => b.innerText)")
    assert labels == [entry["label"] for entry in [*found["runtimes"], *found["unusable"]]]
    rows = page.evaluate("document.querySelectorAll('.req').length")
    assert rows == len(found["requirements"])
