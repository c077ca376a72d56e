"""The benchmarks of whole studies: each stand-in has its row, and a row is what the study's own table says."""

import copy
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mtkd.evaluate.best import NO_EEG
from mtkd.evaluate.run import RESULTS, unit_of
from mtkd.evaluate.statistics import compare
from mtkd.files import read_json
from mtkd.study import read_study
from mtkd.training.fold import folds_of

ABOVE = {"random weights": -0.1, "one-layer attention": 0.05}  # the teacher's stand-ins; others the same


@pytest.fixture
def benchmark(load: Any) -> ModuleType:
    return load("ablations")


def entry(more: float, metrics: Any) -> dict[str, Any]:
    subjects = {f"s{number}": dict.fromkeys(metrics, 0.7 + 0.01 * number + more) for number in range(12)}
    return {"subjects": subjects, "mean": dict.fromkeys(metrics, 0.755 + more), "n_seeds": 3, "share_of_possible": {}}


def results(benchmark: ModuleType) -> dict[str, Any]:
    metrics, teacher = benchmark.METRICS, benchmark.TEACHER
    more = {teacher: 0.0} | {f"{teacher}, {name}": ABOVE.get(name, 0.0) for name in benchmark.STAND_INS}
    kinds = dict.fromkeys(more, "beside") | {teacher: "teacher"}
    more |= {benchmark.STUDENT: 0.0, benchmark.ALONE: -0.02, "no hint": 0.01}
    kinds |= dict.fromkeys((benchmark.STUDENT, benchmark.ALONE, "no hint"), "student")
    table = {name: entry(value, metrics) for name, value in more.items()}

    def tests(models: list[str], baseline: str) -> list[dict[str, Any]]:
        return [
            {"model": model, "baseline": baseline, "metric": metric, "p_holm": 0.5}
            | compare(*({s: v[metric] for s, v in table[each]["subjects"].items()} for each in (model, baseline)))
            for model in models
            for metric in metrics
        ]

    beside = [name for name, kind in kinds.items() if kind == "beside"]
    block = {"models": table, "beside": tests(beside, teacher)}
    block["comparisons"] = tests([benchmark.STUDENT, "no hint"], benchmark.ALONE)
    models = [{"name": name, "kind": kind} for name, kind in kinds.items()]
    return {"models": models, "levels": {level: {"joint": copy.deepcopy(block)} for level in ("window", "trial")}}


def told(benchmark: ModuleType, load: Any, comparisons: list[Any]) -> dict[str, Any]:
    rows = load("rows").Rows()
    load("studies").add_comparisons(rows, comparisons, 2)
    assert len(rows) == len(comparisons)
    return {row.name: row for row in rows}


def test_each_stand_in_of_the_teacher_has_a_row(benchmark: ModuleType, load: Any) -> None:
    rows = told(benchmark, load, benchmark.teachers("small", [results(benchmark)] * 2))
    assert len(rows) == 2 * 3 * len(benchmark.STAND_INS) - 3  # by window a confidence changes nothing
    worse = rows["small, teacher, AUROC by window, against random weights"]
    better = rows["small, teacher, AUROC among all by trial, against one-layer attention"]
    assert worse.ratio == pytest.approx(0.755 / 0.655, abs=1e-3)
    assert worse.met
    assert not better.met
    test = "0.755 against 0.655, +0.100 (+0.100 to +0.100), p = 0.000, of 21 corrected 0.000; 12 subjects, 2 draws"
    assert worse.measured == test


def test_each_other_student_has_a_row_against_the_whole(benchmark: ModuleType, load: Any) -> None:
    rows = told(benchmark, load, benchmark.others("small", [results(benchmark)]))
    assert len(rows) == 2 * 3 * 2
    row = rows["small, student, AUROC by window, against labels alone"]
    assert row.ratio == pytest.approx(0.755 / 0.735, abs=1e-3)
    harm = rows["small, student, balanced accuracy by trial, against no hint"]
    assert not harm.met
    assert "p = 0.000, of 12 corrected 0.000" in harm.measured


def test_subjects_with_a_figure_in_all_draws_are_compared(benchmark: ModuleType, load: Any) -> None:
    found, studies = [results(benchmark), results(benchmark)], load("studies")
    subjects = found[1]["levels"]["window"]["joint"]["models"][benchmark.STUDENT]["subjects"]
    subjects["s0"] = subjects["s0"] | {"auroc": 0.9}
    subjects["s1"] = subjects["s1"] | {"auroc": None}
    said = [studies.figures(found, "window", name, "auroc") for name in (benchmark.STUDENT, benchmark.ALONE)]
    ours, theirs = studies.Comparison("any", *said).pairs()
    assert ours.shape == theirs.shape == (2, 11)
    assert ours[:, 0].tolist() == [0.7, 0.9]
    assert ours[:, 1] == pytest.approx(0.72)
    with pytest.raises(SystemExit, match=r"^any: fewer than two subjects"):
        studies.Comparison("any", [{"s0": 0.5}], [{"s0": 0.5}]).pairs()


@pytest.mark.parametrize(("sd_draws", "sd_subjects"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (0.0, 0.0)])
def test_of_equal_models_few_are_called_better(load: Any, sd_draws: float, sd_subjects: float) -> None:
    """However much of the scatter is the draws' and how much the subjects'."""
    random, found = np.random.default_rng(0), []
    for _ in range(1000):
        own = sd_draws * random.normal(size=(5, 1)) + sd_subjects * random.normal(size=24) + random.normal(size=(5, 24))
        found.append(load("studies").verdict(own).p < 0.05)
    assert np.mean(found) < 0.07


def test_a_test_over_subjects_alone_would_call_far_more(load: Any) -> None:
    random, found = np.random.default_rng(0), []
    for _ in range(300):
        own = random.normal(size=(5, 1)) + random.normal(size=(5, 24))
        found.append(load("studies").verdict(own.mean(0, keepdims=True)).p < 0.05)
    assert np.mean(found) > 0.3


def test_of_one_draw_the_verdict_is_students(load: Any) -> None:
    own = np.random.default_rng(0).normal(0.3, 1, (1, 24))
    expected, said = stats.ttest_1samp(own[0], 0), load("studies").verdict(own)
    interval = expected.confidence_interval()
    assert said.p == pytest.approx(expected.pvalue)
    assert said.interval == pytest.approx((interval.low, interval.high))


def test_a_difference_that_is_there_is_found(load: Any) -> None:
    own = 1 + np.random.default_rng(0).normal(size=(5, 1)) / 4 + np.random.default_rng(1).normal(size=(5, 24))
    assert load("studies").verdict(own).p < 0.01


@pytest.mark.parametrize(("name", "turned"), [("eegmat", "not centred"), ("simulated", "centred")])
def test_what_a_study_does_is_turned_around(benchmark: ModuleType, repo: Path, name: str, turned: str) -> None:
    path = str(repo / f"configs/study/{name}.yaml")
    found = benchmark.students(path, [])
    assert list(found)[:2] == [benchmark.STUDENT, benchmark.ALONE]
    assert turned in found
    assert "no cross-fitting" not in benchmark.students(path, ["splits.crossfit=1"])
    assert "no cross-fitting" in benchmark.students(path, ["splits.crossfit=2"])
    read_study(path, [f"evaluate.students={json.dumps(found)}"])  # they are students of a study


def test_a_curve_tells_each_student_and_what_it_reaches_of_the_possible(benchmark: ModuleType, load: Any) -> None:
    found, rows = results(benchmark), load("rows").Rows()
    for level in benchmark.LEVELS:
        block = found["levels"][level]["joint"]
        block["chance"] = dict.fromkeys(benchmark.METRICS, 0.5)
        block["models"][NO_EEG] = entry(0.1 if level == "window" else -0.3, benchmark.METRICS)
    found["models"].append({"name": NO_EEG, "kind": "possible"})
    curves = load("curves")
    load("studies").add_comparisons(rows, curves.comparisons("n_labelled 4", [found]), 1)
    curves.add_shares(rows, "n_labelled 4", [found])
    told = {row.name: row for row in rows}
    assert told["n_labelled 4, “distilled”, AUROC by window"].ratio == pytest.approx(0.755 / 0.735, abs=1e-3)
    share = told["n_labelled 4, “distilled”, AUROC by window, of the possible above chance"]
    assert (share.ratio, share.met, share.measured) == (0.718, False, "0.755 of 0.855")
    assert len(rows) == 2 * 2 * 3 + 3 * 3  # by trial no more than chance is possible


def test_a_student_is_held_against_its_namesake_in_the_control(benchmark: ModuleType, load: Any) -> None:
    found, control = results(benchmark), results(benchmark)
    for level in benchmark.LEVELS:
        control["levels"][level]["joint"]["models"][benchmark.STUDENT] = entry(-0.05, benchmark.METRICS)
    rows = told(benchmark, load, load("curves").against_control("all", [found] * 2, [control] * 2))
    assert len(rows) == 2 * 3 * 2
    assert rows["all, “distilled”, AUROC by window, against the control"].ratio == pytest.approx(
        0.755 / 0.705, abs=1e-3
    )
    assert rows["all, “no hint”, AUROC by window, against the control"].ratio == 1


def test_each_draw_has_splits_and_seeds_of_its_own(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = load("studies")
    monkeypatch.setattr(studies, "results", lambda study, given: {"study": study, "given": given})
    assert studies.drawn("a.yaml", ["name=b"], 2) == [
        {"study": "a.yaml", "given": ["name=b", f"seed={draw}", f"splits.seed={draw}"]} for draw in range(2)
    ]


def test_the_results_are_those_that_the_run_made(pipeline: Any, load: Any) -> None:
    found = load("studies").results(str(pipeline.file), [])
    made = unit_of(pipeline.study, folds_of(pipeline.study))
    assert found == read_json(made.folder / RESULTS)
    assert np.isfinite(found["levels"]["window"]["joint"]["models"]["distilled"]["mean"]["auroc"])


def test_a_study_that_is_none_ends_the_run(load: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("studies").results(str(tmp_path / "none.yaml"), [])
    assert "no such study file" in capfd.readouterr().err


def test_a_key_without_a_value_is_refused(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["curves.py", "a.yaml", "b=c", "--over", "splits.n_labelled"])
    with pytest.raises(SystemExit):
        load("studies").given_over("text")
    monkeypatch.setattr("sys.argv", ["curves.py", "a.yaml", "b=c", "--over", "splits.n_labelled", "4", "null"])
    given = load("studies").given_over("text")
    assert (given.study, given.changes, given.key) == ("a.yaml", ["b=c"], "splits.n_labelled")
    assert (given.values, given.draws) == (["4", "null"], 5)
