import copy
from collections.abc import Callable
from typing import Any

import pytest

from mtkd.evaluate.best import NO_EEG
from mtkd.evaluate.reading import number, p_value, percent, reading
from mtkd.evaluate.statistics import compare


def results(binary: Any, changes: dict[str, str], keep: Callable[[Any], Any] = lambda rows: rows, **more: Any) -> Any:
    """Results where models are swapped: ``{name: name of the model whose answers it gets}``."""
    chosen = {name: keep(binary.predictions[source]) for name, source in changes.items()}
    return binary.results(predictions=chosen, **more)


def only(*args: Any, **more: Any) -> str:
    return " ".join(reading(results(*args, **more)))


def test_a_shown_gain_is_told_with_its_numbers(binary: Any) -> None:
    models = {"temporal teacher": "temporal teacher", "labels alone": "labels alone", "distilled": "spatial teacher"}
    found = results(binary, models)
    block = found["levels"]["trial"]["joint"]
    text = " ".join(reading(found))
    assert text.startswith("“distilled” is better than “labels alone”")
    for test in block["comparisons"][:3]:
        differ = "" if test["n_differing"] == 8 else f" of whom {test['n_differing']} differ"
        low, high = test["interval"]
        told = (
            f"{test['mean_difference']:+.3f} ({low:+.2f} to {high:+.2f}) over 8 subjects{differ}, p = {test['p']:.3f}"
        )
        assert told in text
    gaps = block["gap_closed"]["distilled"]
    assert (
        f"{percent(gaps['auroc'])} in AUROC and {percent(gaps['auroc_among_all'])} in AUROC among all subjects" in text
    )
    assert "Above what guessing reaches" in text


def test_what_stands_beside_a_teacher_is_told(binary: Any) -> None:
    models = {"temporal teacher": "temporal teacher", "labels alone": "labels alone", "distilled": "spatial teacher"}
    found = results(binary, models)
    block = found["levels"]["trial"]["joint"]
    assert "evaluate.teachers" not in " ".join(reading(found))
    entry = copy.deepcopy(block["comparisons"][0]) | {"model": "random weights", "baseline": "temporal teacher"}
    block["beside"] = [entry | {"p_holm": 0.6}]
    assert "No teacher of evaluate.teachers is shown to differ from the one that teaches." in reading(found)
    block["beside"] = [entry | {"p_holm": 0.01, "mean_difference": -0.1, "metric": "auroc"}]
    assert "“random weights” is lower than “temporal teacher” in AUROC (" in " ".join(reading(found))


def test_no_difference_is_told(binary: Any) -> None:
    same = {"labels alone": "labels alone", "distilled": "labels alone", "temporal teacher": "temporal teacher"}
    text = only(binary, same)
    assert text.startswith("That “distilled” differs from “labels alone” is not shown.")
    assert "over 8 subjects of whom 0 differ" in text
    assert (
        "it closes 0 % in balanced accuracy, 0 % in AUROC and 0 % in AUROC among all subjects on average, though none"
        in text
    )


def test_harm_is_told(binary: Any) -> None:
    worse = {"labels alone": "temporal teacher", "distilled": "labels alone", "temporal teacher": "spatial teacher"}
    text = only(binary, worse)
    assert text.startswith("“distilled” is worse than “labels alone”.")
    assert "lower" in text


def test_the_direction_is_that_of_the_mean_which_is_tested(binary_results: dict[str, Any]) -> None:
    """Nearly all subjects a little higher and one far lower."""
    results = copy.deepcopy(binary_results)
    for entry in results["levels"]["trial"]["joint"]["comparisons"]:
        values = {f"s{index}": 0.5 + 0.001 * index for index in range(24)}
        better = {name: value + 0.02 + value / 100 for name, value in values.items()} | {"s0": -0.2}
        entry.update(compare(better, values), p_holm=0.001)
        assert entry["mean_difference"] < 0 < entry["effect"]
    assert reading(results)[0] == "“distilled” is worse than “labels alone”."


def test_a_teacher_below_the_baseline_leaves_no_gap(binary: Any) -> None:
    text = only(binary, {"temporal teacher": "labels alone", "labels alone": "swept", "distilled": "distilled"})
    assert "a gap from “labels alone” to “temporal teacher” in balanced accuracy, AUROC and AUROC among all" in text


def test_the_headline_is_of_a_student_with_teachers_and_names_whom_it_is_compared_with(binary: Any) -> None:
    models = {"labels alone": "labels alone", "swept": "labels alone", "distilled": "spatial teacher"}
    study = binary.study | {"alone": ["labels alone", "swept"], "baselines": {"distilled": "swept"}}
    with_own = dict.fromkeys(models, "student")
    text = only(binary, models, study=study, kinds=with_own)
    verdict = text.partition(". ")[0]
    assert "“distilled”" in verdict
    assert "“swept”" in verdict
    assert "“labels alone”" not in verdict
    assert "Against “swept”, for “distilled”" in text
    assert "the student “swept”, without EEG, reaches" in text


def test_too_few_subjects_are_told(binary: Any) -> None:
    models = {"labels alone": "labels alone", "distilled": "distilled"}
    text = only(binary, models, keep=lambda rows: rows.rows(rows.subject < "s05"))
    assert "With so many differing subjects the smallest p there can be is 0.125" in text
    assert "this study is too small to show a difference" in text


def test_guessing_is_told(binary: Any) -> None:
    binary.kinds["guess"] = "student"
    text = only(binary, {"labels alone": "labels alone", "guess": "majority"})
    del binary.kinds["guess"]
    assert "Not above what guessing reaches" in text
    assert "“guess”" in text.split("Not above")[1]


def test_without_a_second_student_nothing_is_said(binary: Any) -> None:
    text = only(binary, {"majority": "majority", "labels alone": "labels alone"})
    assert text.startswith("No distilled student was evaluated")
    assert "best possible" not in text


def test_the_distance_from_the_possible_is_told(binary: Any) -> None:
    names = ["labels alone", "distilled", NO_EEG]
    found = results(binary, dict(zip(names, names, strict=True)))
    models = found["levels"]["trial"]["joint"]["models"]
    best = models[NO_EEG]["mean"]
    reached = f"a balanced accuracy of {best['balanced_accuracy']:.2f} and an AUROC of {best['auroc']:.2f}"
    share = models["distilled"]["share_of_possible"][NO_EEG]
    said = " ".join(reading(found))
    assert f"the best possible predictor without EEG reaches {reached}" in said
    assert f"“distilled” reaches {percent(share['balanced_accuracy'])} and {percent(share['auroc'])}." in said


@pytest.mark.parametrize(("n", "told"), [(1, "one training seed;"), (2, "2 training seeds;"), (5, None)])
def test_few_seeds_are_told(binary_results: dict[str, Any], n: int, told: str | None) -> None:
    results = binary_results | {"protocol": binary_results["protocol"] | {"n_seeds": n}}
    last = reading(results)[-1]
    assert ("seed" not in last) if told is None else (told in last)


@pytest.mark.parametrize(("value", "text"), [(0.0002, "< 0.001"), (0.0316, "0.032"), (1.0, "1.000"), (None, "—")])
def test_p_values(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_numbers() -> None:
    assert (number(0.456), number(None), percent(0.456), percent(-0.1), percent(None)) == (
        "0.46",
        "—",
        "46 %",
        "-10 %",
        "—",
    )
