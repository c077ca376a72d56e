"""The table of a student's modalities."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtkd.distill.settings import settings_of
from mtkd.distill.train import unit_of
from mtkd.errors import MtkdError
from mtkd.evaluate.answers import student_answers
from mtkd.evaluate.metrics import summary
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.subsets import subset_answers, subset_table, subsets_of
from mtkd.files import read_json
from mtkd.shards.batch import Cutter
from mtkd.training.fold import folds_of


@pytest.fixture(scope="module")
def answers(pipeline: Any) -> dict[Any, Predictions]:
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    settings = settings_of(study, "distilled", fold)
    return subset_answers(study, fold, settings, unit_of(study, fold, settings))


def same(one: Predictions, other: Predictions) -> bool:
    names = {field.name for field in fields(one)} - {"probs", "confidence"}
    close = np.allclose(one.probs, other.probs, atol=1e-5) and np.allclose(one.confidence, other.confidence, atol=1e-5)
    return close and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_every_subset_is_there_once(pipeline: Any, answers: dict[Any, Predictions]) -> None:
    modalities = pipeline.study.distill.modalities
    assert len(answers) == len(subsets_of(modalities)) == 2 ** len(modalities) - 1
    assert {len(set(subset)) for subset in answers} == set(range(1, len(modalities) + 1))


def test_they_are_what_the_student_says_where_the_others_are_masked(
    pipeline: Any, answers: dict[Any, Predictions], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    settings = settings_of(study, "distilled", fold)
    cut = Cutter.batch
    for subset, found in answers.items():

        def masked(self: Cutter, keys: list[str], kept: Any = subset) -> Any:
            batch = cut(self, keys)
            valid = {name: mask & torch.tensor(name in kept) for name, mask in batch.valid.items()}
            return replace(batch, valid=valid)

        monkeypatch.setattr(Cutter, "batch", masked)
        assert same(found, student_answers(study, fold, settings, unit_of(study, fold, settings))), subset


def test_the_table_holds_what_a_summary_of_the_answers_does(answers: dict[Any, Predictions]) -> None:
    for entry, (subset, rows) in zip(subset_table(answers, 10), answers.items(), strict=True):
        assert entry["modalities"] == list(subset)
        for level, own in (("window", rows.labelled()), ("trial", rows.labelled().per_trial())):
            expected = summary(own, 10)
            assert entry[level]["mean"]["balanced_accuracy"] == expected["mean"]["balanced_accuracy"]
            assert entry[level]["pooled"]["ece"] == expected["pooled"]["ece"]


def test_it_stands_in_the_results_and_in_the_report(pipeline: Any) -> None:
    (folder,) = pipeline.units("evaluate")
    results, page = read_json(folder / "results.json"), (Path(folder) / "report.html").read_text(encoding="utf-8")
    assert list(results["subsets"]) == ["labels alone", "distilled"]
    whole = results["subsets"]["distilled"][-1]
    assert whole["modalities"] == pipeline.study.distill.modalities
    own = results["levels"]["window"]["joint"]["models"]["distilled"]["mean"]["auroc"]
    assert whole["window"]["mean"]["auroc"] == pytest.approx(own, abs=1e-4)
    assert "With fewer sensors" in page
    assert "“distilled” hears" in page
    assert f'<td class="wrap">{" + ".join(whole["modalities"])}</td>' in page


def test_a_student_that_was_given_a_test_subject_is_refused(pipeline: Any) -> None:
    first, second = folds_of(pipeline.study)
    settings = settings_of(pipeline.study, "labels alone", first)
    with pytest.raises(MtkdError, match="a test subject of fold 0"):
        subset_answers(pipeline.study, first, settings, unit_of(pipeline.study, second, settings))
