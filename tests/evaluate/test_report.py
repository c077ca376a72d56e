import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mtkd.errors import MtkdError
from mtkd.evaluate import plots
from mtkd.evaluate.report import console_table, format_table, write_report

LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "formaction"}


class Page(HTMLParser):
    """What a page holds: its tags, what its attributes would load, its text and its tables' rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.cells: list[list[str]] = []
        self.headings: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.open = tag
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in ("td", "th", "pre"):
            self.cells[-1][-1] += data
        if self.open in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture(autouse=True)
def _coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "DPI", 40)


@pytest.fixture(scope="module")
def written(quadrants: Any, quadrant_results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "deep"
    fold = quadrants.importance | {"title": "of one fold"}
    return write_report(quadrant_results, quadrants.predictions, [quadrants.importance, fold], folder)


def test_the_page_stands_alone(written: Path) -> None:
    assert [path.name for path in written.parent.iterdir()] == ["report.html"]
    text = written.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert all(value.startswith("data:image/png;base64,") for value in page.loads)
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    assert not re.search(r"https?://", text)


def test_every_figure_is_a_picture(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert (
        len(page.loads) == 3 + 6
    )  # results of three targets, confusion, calibration, confidence, scalp of all folds and of one
    for value in page.loads:
        assert base64.b64decode(value.partition(",")[2]).startswith(b"\x89PNG\r\n")
    assert page.tags.count("figcaption") == len(page.loads)


def test_every_table_stands(written: Path, quadrant_results: dict[str, Any]) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert page.headings == [
        "synthetic",
        "Results: all classes",
        "Results: valence, low or high",
        "Results: arousal, low or high",
        "Confusion matrices by trial",
        "Calibration by window",
        "Confidence",
        "What the spatial teacher looks at",
        "Splits",
        "Provenance",
    ]
    assert page.tags.count("table") == 3 * 4 + 3
    first = [cells[0] for cells in page.cells]
    for name in ("majority", "class share", "temporal teacher", "spatial teacher", "labels alone"):
        assert first.count(name) >= 6
    for level in ("window", "trial"):
        for target in ("joint", "valence", "arousal"):
            for name, accuracy, auroc in format_table(quadrant_results, level, target):
                assert any(cells[:3] == [name, accuracy, auroc] for cells in page.cells)
    assert ["commit", "0123abc"] in page.cells
    folds = [cells for cells in page.cells if cells[0] in "0123"]
    assert len(folds) == 4
    assert all("%" in cells[2] for cells in folds)


def small(binary: Any, rename: dict[str, str], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results and predictions of three models, some with another name."""
    chosen = {rename.get(name, name): name for name in ("class share", "labels alone", "distilled")}
    predictions = {name: binary.predictions[known] for name, known in chosen.items()}
    kinds = {name: binary.kinds[known] for name, known in chosen.items()}
    return binary.results(predictions=predictions, kinds=kinds, **changes), predictions


def test_the_page_is_that_of_results_read_back(binary: Any, tmp_path: Path) -> None:
    results, predictions = small(binary, {})
    first = write_report(results, predictions, [], tmp_path / "first")
    again = write_report(json.loads(json.dumps(results)), predictions, [], tmp_path / "again")
    assert again.read_bytes() == first.read_bytes()


def test_names_are_text_and_not_markup(binary: Any, tmp_path: Path) -> None:
    name = "<img src=https://example.org>"
    results, predictions = small(binary, {"distilled": name})
    page = Page(write_report(results, predictions, [], tmp_path).read_text(encoding="utf-8"))
    assert all(value.startswith("data:") for value in page.loads)
    assert any(cells[0] == name for cells in page.cells)
    assert "What the spatial teacher looks at" not in page.headings


def test_a_bare_study_is_reported(binary: Any, tmp_path: Path) -> None:
    """One subject, whole trials as windows, no confidence, no teacher, nothing to compare."""
    rows = binary.predictions["labels alone"]
    rows = rows.rows((rows.subject == "s01") & (rows.window == 0))
    rows = replace(rows, confidence=np.full(len(rows), 0.5))
    results = binary.results(predictions={"labels alone": rows}, provenance={})
    text = write_report(results, {"labels alone": rows}, [], tmp_path).read_text(encoding="utf-8")
    assert "Confidence" not in Page(text).headings
    shown = re.sub(r"<style>.*</style>|base64,[^\"]*", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|inf)\b", shown)
    assert "±" not in format_table(results, "trial")[0][1]


def test_what_was_transductive_is_told_in_every_table(binary: Any, tmp_path: Path) -> None:
    results = binary.results()
    told = "statistics of test subjects' recordings were used"
    for transductive in (False, True):
        results["study"]["transductive"] = transductive
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(console_table(results))
        assert (told in console.export_text()) == transductive
        text = write_report(results, binary.predictions, [], tmp_path).read_text(encoding="utf-8")
        assert ("signals.transductive" in text) == transductive
        assert ("no statistic of a test subject was used" in text) != transductive


def test_whom_students_heard_of_training_subjects_is_told(binary: Any, tmp_path: Path) -> None:
    def page(**facts: Any) -> str:
        results = binary.results()
        results["study"] |= facts
        return " ".join(write_report(results, binary.predictions, [], tmp_path).read_text(encoding="utf-8").split())

    own = "heard of training subjects came from teachers that were trained on them."
    crossed = "came from teachers that were trained without them, as each was trained without one of 3 parts"
    assert "heard of training subjects" not in page(crossfit=3, plain=[], crossed=[])
    assert f"What “distilled”, “a &lt;b&gt;” {own} ±" in page(crossfit=1, plain=["distilled", "a <b>"], crossed=[])
    both = page(crossfit=3, plain=["plain"], crossed=["distilled"])
    assert f"What “plain” {own} What “distilled” heard of training subjects {crossed}" in both


def test_how_many_were_labelled_is_told(binary: Any, tmp_path: Path) -> None:
    results = binary.results()
    for n_labelled in (None, 4):
        results["study"]["n_labelled"] = n_labelled
        text = write_report(results, binary.predictions, [], tmp_path).read_text(encoding="utf-8")
        assert ("training subjects 4 kept their labels" in " ".join(text.split())) == (n_labelled == 4)


def test_what_chose_epochs_whose_answers_were_centred_and_who_is_missing_is_told(binary: Any, tmp_path: Path) -> None:
    def page(**facts: Any) -> str:
        results = binary.results()
        results["study"] |= facts
        return " ".join(write_report(results, binary.predictions, [], tmp_path).read_text(encoding="utf-8").split())

    plain = page(kept_last=[], centred=[], untested=[])
    assert "students) saw training subjects only; epochs and swept settings were chosen on validation subjects" in plain
    assert "No figure is of" not in plain
    assert "less its mean" not in plain
    told = page(kept_last=["distilled"], centred=["distilled", "swept"], untested=["s77"], n_labelled=4)
    assert "of “distilled” the last epoch was kept, other epochs and swept settings were chosen on validation" in told
    assert "for “distilled”, “swept”, which takes each subject, also one whose labels are hidden, to be of each" in told
    assert "<strong>No figure is of s77</strong>" in told


def test_other_predictions_than_the_results_are_refused(
    quadrants: Any, quadrant_results: dict[str, Any], tmp_path: Path
) -> None:
    fewer = {name: rows for name, rows in quadrants.predictions.items() if name != "swept"}
    with pytest.raises(MtkdError, match=r"differ in \['swept'\]"):
        write_report(quadrant_results, fewer, [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_table_of_the_command_line(quadrant_results: dict[str, Any]) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(console_table(quadrant_results))
    text = console.export_text()
    rows = zip(format_table(quadrant_results, "window"), format_table(quadrant_results, "trial"), strict=True)
    for (name, *window), (_, *trial) in rows:
        line = next(line for line in text.splitlines() if name in line)
        assert re.findall(r"\d\.\d\d ± \d\.\d\d", line) == window + trial


def test_rows_have_mean_and_sd(quadrant_results: dict[str, Any]) -> None:
    rows = format_table(quadrant_results, "trial", "valence")
    entry = quadrant_results["levels"]["trial"]["valence"]["models"]["swept"]
    expected = f"{entry['mean']['balanced_accuracy']:.2f} ± {entry['sd']['balanced_accuracy']:.2f}"
    assert dict(row[:2] for row in rows)["swept"] == expected
    with pytest.raises(MtkdError, match="no trial level with target dominance"):
        format_table(quadrant_results, "trial", "dominance")


def test_tables_need_no_matplotlib() -> None:
    heavy = "{'matplotlib', 'mne', 'torch'}"
    code = f"import sys, mtkd.evaluate.report; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
