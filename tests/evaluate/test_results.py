import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtkd.errors import MtkdError
from mtkd.evaluate import metrics
from mtkd.evaluate.best import NO_EEG, WITH_EEG
from mtkd.evaluate.chance import chance_level
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.results import COMPARED, build_results


def without_best(predictions: dict[str, Any]) -> dict[str, Any]:
    return {name: rows for name, rows in predictions.items() if name not in (WITH_EEG, NO_EEG)}


def test_results_are_json(quadrant_results: dict[str, Any]) -> None:
    assert json.loads(json.dumps(quadrant_results, allow_nan=False)) == quadrant_results


def test_every_level_and_target_stands(quadrant_results: dict[str, Any], binary_results: dict[str, Any]) -> None:
    for results, targets in ((quadrant_results, ["joint", "valence", "arousal"]), (binary_results, ["joint"])):
        assert list(results["levels"]) == ["window", "trial"]
        for level in results["levels"].values():
            assert list(level) == targets
            for block in level.values():
                assert list(block["models"]) == [model["name"] for model in results["models"]]
    assert quadrant_results["levels"]["trial"]["arousal"]["class_names"] == ["low arousal", "high arousal"]


def test_numbers_are_those_of_the_predictions(quadrants: Any, quadrant_results: dict[str, Any]) -> None:
    answers = quadrants.predictions["distilled"].per_trial().marginal(1)
    block = quadrant_results["levels"]["trial"]["arousal"]
    entry = block["models"]["distilled"]
    each = [
        metrics.auroc(answers.label[mine], answers.probs[mine])
        for mine in (answers.subject == name for name in np.unique(answers.subject))
    ]
    assert entry["mean"]["auroc"] == pytest.approx(np.mean(each))
    assert entry["sd"]["auroc"] == pytest.approx(np.std(each, ddof=1))
    assert entry["n_rows"] == len(answers) == sum(block["chance"]["n_trials_per_class"])
    assert np.sum(entry["confusion"]) == len(answers)
    assert block["chance"]["limit"] == chance_level(block["chance"]["n_trials_per_class"])


def test_chance_is_that_of_the_classes_a_subject_has(quadrants: Any, quadrant_results: dict[str, Any]) -> None:
    """Who lacks a class is scored over the others, and a constant answer reaches more there."""
    block = quadrant_results["levels"]["trial"]["joint"]
    assert block["chance"]["balanced_accuracy"] == pytest.approx(0.25)
    lacking = {
        name: rows.rows((rows.subject != "s01") | (rows.label < 2)) for name, rows in quadrants.predictions.items()
    }
    chance = quadrants.results(predictions=lacking)["levels"]["trial"]["joint"]["chance"]["balanced_accuracy"]
    assert chance == pytest.approx((6 * 0.25 + 0.5) / 7)


def test_chance_counts_trials_at_both_levels(quadrant_results: dict[str, Any]) -> None:
    window, trial = (quadrant_results["levels"][level]["joint"] for level in ("window", "trial"))
    assert window["chance"] == trial["chance"]
    assert window["models"]["distilled"]["n_rows"] == 5 * trial["models"]["distilled"]["n_rows"]


def test_students_are_compared_with_the_baseline(quadrant_results: dict[str, Any]) -> None:
    block = quadrant_results["levels"]["trial"]["joint"]
    compared = [(entry["model"], entry["metric"]) for entry in block["comparisons"]]
    assert compared == [(name, m) for name in ("distilled", "swept") for m in COMPARED]
    for entry in block["comparisons"]:
        mean, of = entry["metric"], block["models"]
        difference = of[entry["model"]]["mean"][mean] - of["labels alone"]["mean"][mean]
        assert entry["mean_difference"] == pytest.approx(difference)
        assert entry["p"] <= entry["p_holm"] <= 1
    gap, mean = block["gap_closed"]["swept"]["auroc"], {k: v["mean"]["auroc"] for k, v in block["models"].items()}
    assert block["best_teacher"]["auroc"] == "temporal teacher"
    expected = (mean["swept"] - mean["labels alone"]) / (mean["temporal teacher"] - mean["labels alone"])
    assert gap == pytest.approx(expected)


@pytest.mark.parametrize(("target", "chance"), [("joint", 0.25), ("valence", 0.5)])
def test_models_are_held_against_the_best_possible_on_the_same_trials(
    quadrant_results: dict[str, Any], target: str, chance: float
) -> None:
    models = quadrant_results["levels"]["trial"][target]["models"]
    for name in (WITH_EEG, NO_EEG):
        best, own = (models[model]["mean"]["balanced_accuracy"] for model in (name, "swept"))
        share = models["swept"]["share_of_possible"][name]["balanced_accuracy"]
        assert share == pytest.approx((own - chance) / (best - chance))
        assert models[name]["share_of_possible"][name]["auroc"] == pytest.approx(1)


def test_what_the_best_reach_on_average_stands_for_all_classes_only(quadrants: Any, quadrant_results: Any) -> None:
    for level, targets in quadrant_results["levels"].items():
        assert targets["joint"]["expected"] == {name: best[level] for name, best in quadrants.expected.items()}
        assert targets["valence"]["expected"] == {}
        assert not {entry["model"] for entry in targets["joint"]["comparisons"]} & {WITH_EEG, NO_EEG}


def test_unlabelled_rows_count_for_nothing(binary: Any, binary_results: dict[str, Any]) -> None:
    def with_unlabelled(rows: Any) -> Any:
        extra = rows.rows(rows.trial == "t01")
        nameless = replace(extra, trial=np.full(len(extra), "t99"), label=np.full(len(extra), -1))
        return type(rows).concatenate([rows, nameless])

    more = {name: with_unlabelled(rows) for name, rows in binary.predictions.items()}
    levels = binary.results(predictions=more)["levels"]
    for level in ("window", "trial"):
        entry = levels[level]["joint"]["models"]["distilled"]
        assert entry == binary_results["levels"][level]["joint"]["models"]["distilled"]


def test_undefined_numbers_are_null(binary: Any) -> None:
    first = {name: rows.rows(rows.subject == "s01") for name, rows in binary.predictions.items()}
    results = binary.results(predictions=without_best(first), expected={}, provenance={"loss": float("nan")})
    entry = results["levels"]["trial"]["joint"]["models"]["swept"]
    assert entry["sd"]["auroc"] is None
    assert entry["share_of_possible"] == {}
    assert results["provenance"]["loss"] is None
    assert results["protocol"]["n_seeds"] == 1
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_seeds_are_counted(binary: Any) -> None:
    one = binary.predictions["labels alone"]
    two = Predictions.concatenate([one, replace(one, seed=one.seed + 1)])
    protocol = binary.results(predictions=binary.predictions | {"labels alone": two})["protocol"]
    assert (protocol["n_seeds"], protocol["n_teacher_seeds"]) == (2, 1)
    protocol = binary.results(predictions={"labels alone": one})["protocol"]
    assert (protocol["n_seeds"], protocol["n_teacher_seeds"]) == (1, 0)


def test_planted_leaks_are_refused(binary: Any) -> None:
    seen = [{**fold, "train": [*fold["train"], *fold["test"][:1]]} for fold in binary.folds]
    with pytest.raises(MtkdError, match="fold 0 tests subject s01, on which it was trained or chosen"):
        binary.results(folds=seen)
    chosen = [{**fold, "val": [*fold["val"], *fold["test"][:1]]} for fold in binary.folds]
    with pytest.raises(MtkdError, match="fold 0 tests subject s01, on which it was trained or chosen"):
        binary.results(folds=chosen)
    rows = binary.predictions["distilled"]
    swapped = binary.predictions | {"distilled": replace(rows, fold=(rows.fold + 1) % 4)}
    with pytest.raises(MtkdError, match="distilled predicts subject s04 in fold 0, which does not test it"):
        binary.results(predictions=swapped)
    with pytest.raises(MtkdError, match="which does not test it"):
        binary.results(folds=binary.folds[:2])


def test_disagreement_about_a_label_is_refused(binary: Any) -> None:
    rows = binary.predictions["distilled"]
    flipped = replace(rows, label=np.where((rows.subject == "s03") & (rows.trial == "t02"), 1 - rows.label, rows.label))
    with pytest.raises(MtkdError, match="disagree whether trial t02 of s03 is"):
        binary.results(predictions=binary.predictions | {"distilled": flipped})


def test_models_without_the_same_subjects_are_refused(binary: Any) -> None:
    rows = binary.predictions["distilled"]
    predictions = {"labels alone": binary.predictions["labels alone"], "distilled": rows.rows(rows.subject != "s02")}
    with pytest.raises(MtkdError, match=r"only one of two models has subjects \['s02'\]"):
        binary.results(predictions=predictions)


@pytest.mark.parametrize(
    ("study", "kinds", "message"),
    [
        ({"baseline": "temporal teacher"}, {}, "the baseline 'temporal teacher' is no student"),
        ({"baseline": "none"}, {}, "the baseline 'none' is no student"),
        ({"class_names": ["a", "b", "c"]}, {}, "tells 2 classes, the study 3"),
        ({"ratings": ["joint"]}, {}, "no rating can be named joint"),
        (
            {},
            {"swept": "pupil"},
            "model 'swept' has kind 'pupil', expected one of trivial, teacher, beside, student, possible",
        ),
    ],
)
def test_a_study_that_does_not_fit_is_refused(
    binary: Any, study: dict[str, Any], kinds: dict[str, str], message: str
) -> None:
    with pytest.raises(MtkdError, match=message):
        binary.results(study=binary.study | study, kinds=binary.kinds | kinds)
    incomplete = {key: value for key, value in binary.study.items() if key != "n_bins"}
    with pytest.raises(MtkdError, match="the study has no n_bins"):
        build_results(incomplete, binary.predictions, binary.kinds, {}, {}, binary.folds, {})
