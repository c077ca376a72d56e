"""Rows of benchmarks: told, written as JSON, and put into RESULTS.md."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def rows(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    module = importlib.import_module("rows")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "RESULTS.md")
    return module


def test_a_goal_is_met_or_not(rows: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    made = rows.Rows()
    made.at_most("time", 0.75, 1, "9.0 of 12 min")
    made.at_most("memory", 1.25, 1, "10.0 of 8 GB")
    made.at_least("speed", 12.0, 10, "12 against 1")
    made.at_least("reading", 3.0, 4, "3 against 1")
    assert [row.met for row in made] == [True, False, True, False]
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["time", "memory", "speed", "reading"]
    assert ["met" in line for line in told] == ["short" not in line for line in told] == [True, False, True, False]


def test_a_section_takes_the_place_of_the_last_one_and_of_no_other(rows: ModuleType, tmp_path: Path) -> None:
    made = rows.Rows()
    made.at_most("time", 0.75, 1, "9.0 of 12 min")
    made.at_least("speed", 3.0, 4, "3 against 1")
    rows.finish("one.py", made, tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {"name": "time", "ratio": 0.75, "goal": "at most 1", "met": True},
        {"name": "speed", "ratio": 3.0, "goal": "at least 4", "met": False},
    ]
    first = rows.RESULTS.read_text()
    assert "| time | 0.75 | at most 1 | met | 9.0 of 12 min |" in first
    assert "| speed | 3.0 | at least 4 | short | 3 against 1 |" in first
    rows.RESULTS.write_text(first + "\n## other.py\n\nkept\n")
    rows.finish("one.py", made[:1], None)
    second = rows.RESULTS.read_text()
    assert "## other.py\n\nkept\n" in second
    assert second.count("## one.py") == 1
    assert "speed" not in second


def test_a_command_is_told_without_this_machines_places(rows: ModuleType) -> None:
    words = ["/x/curves.py", "a.yaml", "data.folder=/home/me", "b={c: 1}", "--json", "/tmp/f", "--over", "k", "/y", "4"]
    expected = "python benchmarks/curves.py a.yaml data.folder=FOLDER 'b={c: 1}' --over k FOLDER 4"
    assert rows.command(words) == expected
