import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from mtkd.errors import MtkdError
from mtkd.evaluate.statistics import (
    compare,
    gap_closed,
    holm,
    is_clear,
    paired_differences,
    rank_biserial,
    share_of_possible,
    sign_flip,
    signed_rank,
)

few = settings(max_examples=25, deadline=None)
relaxed = settings(deadline=None)
p_values = st.dictionaries(st.integers(0, 20), st.floats(0, 1), min_size=1, max_size=8)
whole = st.lists(st.integers(-9, 9), min_size=2, max_size=11).filter(any)


def subjects(values: list[float]) -> dict[str, float | None]:
    return {f"s{index}": value for index, value in enumerate(values)}


@few
@given(st.lists(st.floats(-1, 1).filter(bool), min_size=3, max_size=30, unique_by=abs))
def test_without_ties_the_test_is_scipys(values: list[float]) -> None:
    assert signed_rank(np.array(values)) == wilcoxon(np.array(values)).pvalue


@few
@given(st.lists(st.integers(1, 3), min_size=3, max_size=7), st.integers(0, 2**7 - 1))
def test_with_ties_the_test_is_scipys_exact_one(sizes: list[int], signs: int) -> None:
    difference = np.array([size * (-1) ** (signs >> index & 1) for index, size in enumerate(sizes)], float)
    assert signed_rank(difference) == pytest.approx(wilcoxon(difference).pvalue)


@pytest.mark.parametrize("sizes", [[1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 2, 2, 3, 3, 9], [1, 1, 1, 1, 1, 1, 1, 1]])
def test_a_null_is_rejected_no_more_often_than_promised(sizes: list[int]) -> None:
    """Every sign pattern is equally likely where nothing differs."""
    patterns = list(itertools.product((-1, 1), repeat=len(sizes)))[::3]
    for test in (signed_rank, sign_flip):
        p = np.array([test(np.multiply(sizes, signs).astype(float)) for signs in patterns])
        for level in (0.01, 0.05, 0.1, 0.5):
            assert (p <= level).mean() <= level + 0.02


def test_a_mean_of_nothing_is_what_the_verdict_is_about() -> None:
    """Models with one mean, one of which is far off for some subjects: Wilcoxon's test takes them for different."""
    random, share, n_studies = np.random.default_rng(0), 0.18, 400
    calls = []
    for _ in range(n_studies):
        odd = random.random(24) < share
        difference = np.where(odd, -0.06 * (1 - share) / share, 0.06) + random.normal(0, 0.05, 24)
        calls.append((signed_rank(difference) < 0.05, sign_flip(difference, resamples=1999) < 0.05))
    by_ranks, by_mean = np.mean(calls, axis=0)
    assert by_ranks > 0.2
    assert by_mean < 0.1


def test_ties_of_many_subjects_are_not_approximated() -> None:
    """Against all sign patterns' share, drawn anew."""
    random = np.random.default_rng(1)
    difference = random.integers(-3, 5, 20).astype(float)
    nonzero = difference[difference != 0]
    ranks = rankdata(np.abs(nonzero)) * np.sign(nonzero)
    sums = random.choice([-1, 1], (200_000, len(ranks))) @ np.abs(ranks)
    share = min(np.mean(sums >= ranks.sum()), np.mean(sums <= ranks.sum()))
    assert signed_rank(difference) == pytest.approx(2 * share, rel=0.1)


@pytest.mark.parametrize(("sd", "clear"), [(0.02, True), (0.2, False)])
def test_a_lead_is_clear_beyond_twice_its_standard_error(sd: float, clear: bool) -> None:
    lead = 0.05 + sd * np.tile([-1.0, 1.0], 6)
    ours, theirs = subjects((0.6 + lead).tolist()), subjects([0.6] * 12)
    assert is_clear(ours, theirs) == clear
    assert not is_clear(theirs, ours)
    assert not is_clear(subjects([0.9]), subjects([0.5]))


@few
@given(whole)
def test_sign_flips_are_tried_exhaustively(values: list[int]) -> None:
    difference = np.array(values, float)
    sums = [np.dot(difference, signs) for signs in itertools.product((-1, 1), repeat=len(values))]
    tails = [np.mean(np.array(sums) >= difference.sum()), np.mean(np.array(sums) <= difference.sum())]
    assert sign_flip(difference) == pytest.approx(min(2 * min(tails), 1))


@relaxed
@given(whole)
def test_effect_is_bounded_and_antisymmetric(values: list[int]) -> None:
    difference = np.array(values, float)
    assert -1 <= rank_biserial(difference) <= 1
    assert rank_biserial(-difference) == pytest.approx(-rank_biserial(difference))
    assert rank_biserial(np.abs(difference)) == 1


def test_comparison_by_hand() -> None:
    found = compare(subjects([0.7, 0.8, 0.6, 0.9, 0.65, 0.75]), subjects([0.6, 0.6, 0.55, 0.5, 0.62, 0.4]))
    assert found["n"] == found["n_differing"] == 6
    assert found["mean_difference"] == pytest.approx(0.188333, abs=1e-6)
    assert found["p"] == found["p_smallest"] == 2 / 2**6
    assert found["p_greater"] == 1 / 2**6
    assert found["p_wilcoxon"] == 2 / 2**6
    low, high = found["interval"]
    assert (low + high) / 2 == pytest.approx(found["mean_difference"])
    assert high - low == pytest.approx(
        2 * 2.5706 * np.std([0.1, 0.2, 0.05, 0.4, 0.03, 0.35], ddof=1) / 6**0.5, rel=1e-4
    )
    assert found["effect"] == 1


def test_equal_models_do_not_differ() -> None:
    same = subjects([0.7, 0.8, 0.6])
    found = compare(same, same)
    assert (found["p"], found["p_greater"], found["p_wilcoxon"], found["effect"]) == (1, 1, 1, 0)
    assert (found["n"], found["n_differing"], found["p_smallest"]) == (3, 0, 1)


def test_one_subject_shows_nothing() -> None:
    found = compare(subjects([0.7]), subjects([0.5]))
    assert (found["p"], found["p_greater"], found["p_wilcoxon"], found["p_smallest"]) == (1, 0.5, 1, 1)
    assert np.isnan(found["interval"]).all()
    assert sign_flip(np.array([-0.2]), "greater") == 1


def test_undefined_subjects_are_left_out_and_missing_ones_refused() -> None:
    one, other = subjects([0.7, None, 0.5, float("nan")]), subjects([0.5, 0.6, 0.6, 0.4])
    np.testing.assert_allclose(paired_differences(one, other), [0.2, -0.1])
    assert compare(one, other)["n"] == 2
    nothing = compare(subjects([None]), subjects([0.5]))
    assert nothing["n"] == 0
    assert np.isnan(nothing["p"])
    with pytest.raises(MtkdError, match="only one of two models has subjects"):
        compare(one, subjects([0.5]))


def test_differences_equal_on_paper_are_ties() -> None:
    difference = paired_differences(subjects([0.3, 0.7]), subjects([0.1, 0.5]))
    assert difference[0] == difference[1] == 0.2


@relaxed
@given(p_values)
def test_holm_is_monotone_and_between_raw_and_bonferroni(raw: dict[int, float]) -> None:
    corrected = holm(raw)
    assert list(corrected) == list(raw)
    for key, p in raw.items():
        assert p <= corrected[key] <= min(len(raw) * p, 1) + 1e-12
    order = sorted(raw, key=raw.__getitem__)
    assert [corrected[key] for key in order] == sorted(corrected.values())
    assert holm(dict(reversed(raw.items()))) == corrected


def test_holm_by_hand() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": float("nan")})
    assert [corrected[key] for key in "abcd"] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(corrected["e"])


unit = st.floats(0, 1)


@relaxed
@given(unit, unit, unit)
def test_gap_is_a_line_from_baseline_to_teacher(student: float, baseline: float, teacher: float) -> None:
    gap = gap_closed(student, baseline, teacher)
    if teacher <= baseline:
        assert gap is None
    elif teacher - baseline > 1e-6:
        assert baseline + gap * (teacher - baseline) == pytest.approx(student, abs=1e-9)
        assert gap_closed(baseline, baseline, teacher) == 0
        assert gap_closed(teacher, baseline, teacher) == 1


def test_shares_of_nothing_are_none() -> None:
    assert gap_closed(float("nan"), 0.5, 0.6) is None
    assert gap_closed(0.5, float("nan"), 0.6) is None
    assert share_of_possible(0.6, 0.5, 0.5) is None
    assert share_of_possible(float("nan"), 0.5, 0.9) is None
    assert share_of_possible(0.6, 0.5, 0.9) == pytest.approx(0.25)
