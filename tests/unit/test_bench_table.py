"""tools/bench_table.py: the figures in README.md, ARCHITECTURE.md and docs/speed.md are those of docs/bench.json."""

import copy
import importlib.util
import json

import pytest

import harness

SPEC = importlib.util.spec_from_file_location("bench_table", harness.ROOT / "tools/bench_table.py")
bench_table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench_table)


@pytest.fixture
def figures():
    return json.loads(bench_table.FIGURES.read_text())


def test_the_pages_have_the_figures_of_the_last_run(figures):
    assert bench_table.old(figures) == [], "tools/bench_table.py updates them"


def test_a_changed_figure_makes_every_page_out_of_date(figures):
    changed = copy.deepcopy(figures)
    for step in ("run", "cycle"):
        changed["bundles"]["hello"]["steps"][step]["pyrunc"]["median"] *= 2
    assert bench_table.old(changed) == [*bench_table.FILES, bench_table.PLOTS]


def test_a_missing_figure_is_a_dash_and_an_empty_row_is_left_out(figures):
    figures["steps"] = {"counts": {"pyrunc": {"create": 5_430_000}}}  # whatever was measured last
    assert "| millions of instructions of create | 5.43 |" in bench_table.rest(figures)
    del figures["steps"], figures["smallest"]["crun"]
    text = bench_table.rest(figures)
    assert "instructions" not in text
    (row,) = (line for line in text.splitlines() if "smallest memory limit" in line)
    assert row.endswith(" | – |") and row.count("–") == 1


def test_only_the_text_between_the_marks_is_replaced(figures):
    text = "before\n<!-- bench limits: tools/bench_table.py writes this -->\nold\n<!-- /bench -->\nafter\n"
    filled = bench_table.page(text, figures)
    assert filled.startswith("before\n<!-- bench limits") and filled.endswith("<!-- /bench -->\nafter\n") and "old" not in filled
    assert bench_table.page(filled, figures) == filled
