"""The heart rate alone, as a model of a study: on real recordings, of a few subjects."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mtkd.config import Study
from mtkd.shards import build
from mtkd.study import read_study
from mtkd.training.fold import folds_of

WORDS = ["data.subjects=['01','02','06','07','08','09']", "splits.n_folds=2", "splits.n_labelled=2"]


@pytest.fixture
def benchmark(load: Any) -> ModuleType:
    return load("heart_rate")


@pytest.fixture(scope="module")
def words(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("heart") / "workspace"
    return [*WORDS, f"data.folder={shared_data / 'eegmat'}", "data.download=null", f"workspace={folder}"]


@pytest.fixture(scope="module")
def study(repo: Path, words: list[str]) -> Study:
    made = read_study(repo / "configs/study/eegmat.yaml", words)
    build.run(made)
    return made


def test_it_answers_of_test_subjects_by_the_rate_and_nothing_else(benchmark: ModuleType, study: Study) -> None:
    for fold in folds_of(study):
        rows = benchmark.answers(study, fold)
        assert set(rows.subject) == set(fold.test)
        asked = benchmark.Answering(study, fold, ["ecg"])
        (batch,) = asked.batches()
        rate = benchmark.heart_rate(study, batch)[batch.steps.numpy()]
        odds = np.log(rows.probs[:, 1] / rows.probs[:, 0])
        known = np.isfinite(rate)
        assert known.mean() > 0.9
        faster = -np.corrcoef(rate[known], odds[known])[0, 1]  # the shorter the interval, the more arithmetic
        assert faster > 0.999
        assert (60 / np.exp(rate[known]) > 30).all()  # beats a minute
        assert (60 / np.exp(rate[known]) < 200).all()


def test_a_model_has_a_row_for_each_metric_and_level(
    benchmark: ModuleType, load: Any, study: Study, words: list[str], repo: Path
) -> None:
    alone = benchmark.of_draws(str(repo / "configs/study/eegmat.yaml"), words, 1)
    subjects = {subject: dict.fromkeys(benchmark.METRICS, 0.75) for subject in alone["window"][0]}
    table = {"distilled": {"subjects": subjects}}
    found = {"models": [{"name": "distilled", "kind": "student"}]}
    found["levels"] = {level: {"joint": {"models": table}} for level in ("window", "trial")}
    rows = load("rows").Rows()
    load("studies").add_comparisons(rows, benchmark.comparisons("n_labelled 2", [found], alone), 1)
    assert len(rows) == 2 * 3
    mean = np.mean([own["auroc_among_all"] for own in alone["window"][0].values()])
    told = {row.name: row.measured for row in rows}
    row = told["n_labelled 2, “distilled”, AUROC among all by window, against the heart rate"]
    assert row.startswith(f"0.750 against {mean:.3f}, ")
