"""Folds by subject: disjoint, complete, and the same every time."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtkd.config import Splits
from mtkd.errors import MtkdError
from mtkd.signals.splits import Fold, crossfit, make_folds

subject_sets = st.sets(st.text("abc012", min_size=1, max_size=4), min_size=3, max_size=40).map(sorted)
splits = st.builds(
    lambda n_folds, val_share, seed: Splits(n_folds=n_folds, val_share=val_share, seed=seed),
    st.integers(2, 12),
    st.floats(0.05, 0.9),
    st.integers(0, 5),
)


def made(subjects: list[str], given_splits: Splits) -> list[Fold]:
    try:
        return make_folds(subjects, given_splits)
    except MtkdError:
        assume(False)


@given(subject_sets, splits)
def test_no_subject_stands_on_two_sides_and_none_is_lost(subjects, given_splits):
    for fold in made(subjects, given_splits):
        assert sorted(fold.train + fold.val + fold.test) == subjects
        assert fold.train
        assert fold.val
        assert fold.test


@given(subject_sets, splits)
def test_every_subject_is_tested_exactly_once(subjects, given_splits):
    folds = made(subjects, given_splits)
    assert [fold.index for fold in folds] == list(range(given_splits.n_folds))
    assert sorted(subject for fold in folds for subject in fold.test) == subjects
    sizes = {len(fold.test) for fold in folds}
    assert max(sizes) - min(sizes) <= 1


@given(subject_sets, splits)
def test_the_share_of_validation_is_the_one_asked_for(subjects, given_splits):
    for fold in made(subjects, given_splits):
        rest = len(fold.train) + len(fold.val)
        assert len(fold.val) == max(1, round(given_splits.val_share * rest))


@given(subject_sets, splits, st.randoms())
def test_folds_depend_on_who_there_is_and_the_seed_and_on_no_order(subjects, given_splits, random):
    shuffled = random.sample(subjects, len(subjects))
    folds = made(subjects, given_splits)
    assert folds == make_folds(shuffled, given_splits)
    assert [fold.fingerprint for fold in folds] == [fold.fingerprint for fold in make_folds(shuffled, given_splits)]


def test_another_seed_deals_anew():
    subjects = [f"s{index:02d}" for index in range(20)]
    dealt = {tuple(make_folds(subjects, Splits(n_folds=4, seed=seed))[0].test) for seed in range(10)}
    assert len(dealt) > 5


@given(subject_sets, splits)
def test_different_folds_have_different_fingerprints(subjects, given_splits):
    folds = made(subjects, given_splits)
    assert len({fold.fingerprint for fold in folds}) == len(folds)


def test_a_fingerprint_tells_who_stands_where():
    fold = Fold(0, ["a", "b"], ["c"], ["d"])
    others = [Fold(0, ["a"], ["b", "c"], ["d"]), Fold(0, ["a", "b"], ["d"], ["c"]), Fold(0, ["a", "b"], ["c"], [])]
    assert fold.fingerprint not in {other.fingerprint for other in others}
    assert fold.fingerprint == Fold(1, ["a", "b"], ["c"], ["d"]).fingerprint


@pytest.mark.parametrize(("n_subjects", "n_folds"), [(0, 2), (1, 2), (2, 2), (3, 5), (11, 12)])
def test_too_few_subjects_are_refused_by_both_numbers(n_subjects, n_folds):
    subjects = [f"s{index}" for index in range(n_subjects)]
    with pytest.raises(MtkdError, match=rf"^splits\.n_folds = {n_folds}: {n_subjects} subjects? (is|are) too few"):
        make_folds(subjects, Splits(n_folds=n_folds))


def test_validation_that_leaves_nobody_to_train_is_refused():
    with pytest.raises(MtkdError, match="too few"):
        make_folds(["a", "b", "c", "d"], Splits(n_folds=2, val_share=0.9))


@given(st.integers(4, 40), st.integers(2, 4))
def test_enough_subjects_are_never_refused(n_subjects, n_folds):
    make_folds([f"s{index}" for index in range(n_subjects)], Splits(n_folds=n_folds))


@given(subject_sets, splits, st.integers(2, 8))
def test_every_training_subject_is_left_out_once(subjects, given_splits, n_parts):
    given_splits = given_splits.model_copy(update={"crossfit": n_parts})
    for fold in made(subjects, given_splits):
        if len(fold.train) < n_parts:
            told = rf"^splits\.crossfit = {n_parts}: fold {fold.index} has {len(fold.train)} training subjects?$"
            with pytest.raises(MtkdError, match=told):
                crossfit(fold, given_splits)
            continue
        parts = crossfit(fold, given_splits)
        assert [(each.index, each.part) for each in parts] == [(fold.index, 1 + part) for part in range(n_parts)]
        assert sorted(subject for each in parts for subject in each.left_out) == fold.train
        for each in parts:
            assert sorted(each.train + each.left_out) == fold.train
            assert each.train
            assert each.left_out
            assert (each.val, each.test) == (fold.val, fold.test)
        assert len({each.name for each in (fold, *parts)}) == 1 + n_parts
        assert len({each.fingerprint for each in (fold, *parts)}) == 1 + n_parts
        assert parts == crossfit(fold, given_splits)


def test_without_cross_fitting_nobody_is_left_out():
    splits = Splits(n_folds=2)
    assert [crossfit(fold, splits) for fold in make_folds(list("abcdef"), splits)] == [[], []]


@given(subject_sets, splits, st.data())
def test_so_many_keep_their_labels_and_fewer_are_among_more(subjects, given_splits, data):
    """Who is tested and who validates does not change, and whose labels are hidden is nobody's training subject."""
    whole = made(subjects, given_splits)
    possible = st.integers(1, min(len(fold.train) for fold in whole))
    some, more = sorted((data.draw(possible), data.draw(possible)))
    few, many = (
        make_folds(subjects, given_splits.model_copy(update={"n_labelled": number})) for number in (some, more)
    )
    for fold, fewer, larger in zip(whole, few, many, strict=True):
        assert not fold.hidden
        assert len(fewer.train) == some
        assert set(fewer.train) <= set(larger.train) <= set(fold.train)
        assert sorted(fewer.train + fewer.hidden) == fold.train
        assert (fewer.val, fewer.test) == (fold.val, fold.test)
        assert (fewer.fingerprint == fold.fingerprint) == (some == len(fold.train))


def test_more_labelled_subjects_than_there_are_for_training_are_refused():
    with pytest.raises(MtkdError, match=r"splits\.n_labelled = 5: fold 0 has 4 training subjects"):
        make_folds([f"s{index}" for index in range(8)], Splits(n_folds=4, val_share=0.3, n_labelled=5))


def test_what_is_hidden_is_nobodys_part():
    """Teachers never heard of them, so that cross-fitting has nothing to leave out."""
    (fold, *_) = make_folds([f"s{index}" for index in range(12)], given := Splits(n_folds=3, n_labelled=4, crossfit=2))
    parts = crossfit(fold, given)
    assert sorted(subject for part in parts for subject in part.left_out) == fold.train
    assert all(part.hidden == fold.hidden for part in parts)


@given(st.integers(6, 30), st.integers(2, 5), st.integers(5, 40), st.integers(0, 99))
def test_with_disjoint_stimuli_each_is_tested_in_one_fold_and_heard_in_all_others(
    n_subjects: int, n_folds: int, n_stimuli: int, seed: int
) -> None:
    subjects, stimuli = [f"s{index}" for index in range(n_subjects)], [f"v{index}" for index in range(n_stimuli)]
    splits = Splits(n_folds=n_folds, seed=seed, disjoint_stimuli=True)
    folds = make_folds(subjects, splits, stimuli)
    assert sorted(stimulus for fold in folds for stimulus in fold.stimuli) == sorted(stimuli)
    plain = make_folds(subjects, splits.model_copy(update={"disjoint_stimuli": False}), stimuli)
    for fold, other in zip(folds, plain, strict=True):
        assert (fold.train, fold.val, fold.test) == (other.train, other.val, other.test)
        assert fold.fingerprint != other.fingerprint
        taken = {(subject, stimulus) for subject in subjects for stimulus in stimuli if fold.takes(subject, stimulus)}
        assert {stimulus for subject, stimulus in taken if subject in fold.test} == set(fold.stimuli)
        assert {stimulus for subject, stimulus in taken if subject not in fold.test} == set(stimuli) - set(fold.stimuli)
        assert all(other.takes(subject, stimulus) for subject in subjects for stimulus in stimuli)


def test_fewer_stimuli_than_folds_are_refused() -> None:
    splits = Splits(n_folds=3, disjoint_stimuli=True)
    with pytest.raises(MtkdError, match="disjoint_stimuli: 2 stimuli cannot be dealt out to 3 folds"):
        make_folds([f"s{index}" for index in range(9)], splits, ["a", "b"])
