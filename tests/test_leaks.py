"""A leak of each of the five kinds, planted in a study that is whole, and refused.

1. A test subject, or a test stimulus where stimuli are disjoint, among what was trained on.
2. A teacher of another fold, or one that saw the fold's test subjects.
3. A soft label of a training subject from a cross-fitting teacher that saw the subject.
4. A statistic that was fitted on test subjects.
5. A choice made on test subjects.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtkd.cache import build as cache
from mtkd.cache.source import CachedSource
from mtkd.config import Cache, Splits, Study
from mtkd.distill import train as distill
from mtkd.distill.settings import apply_best, base_settings, settings_of
from mtkd.errors import MtkdError
from mtkd.evaluate.answers import student_answers, teacher_answers
from mtkd.signals.splits import Fold
from mtkd.study import read_study
from mtkd.teachers.spatial import train as spatial
from mtkd.training.fold import FoldData, folds_of, jobs_of

SPATIAL = {"teachers": {"spatial": 1.0}}


@pytest.fixture
def study(pipeline: Any, tmp_path: Path) -> Study:
    return pipeline.copy(tmp_path / "workspace")


@pytest.fixture
def first(study: Study) -> Fold:
    return folds_of(study)[0]


def split(study: Study, **changes: Any) -> Study:
    """The study with other splits and without the spatial teachers of these."""
    return study.model_copy(update={"splits": Splits(**study.splits.model_dump() | changes)})


def teach(study: Study) -> None:
    """Train all spatial teachers that are missing, in this process, in which leaks are planted, and ask them."""
    for job in jobs_of(study, "spatial", spatial.unit_of):
        if not job.unit.stands():
            spatial._train(job)
    for job in jobs_of(study, "spatial", lambda own, fold: cache.unit_of(own, fold, "spatial")):
        if not job.unit.stands():
            cache._write(job, "spatial")


def forget(study: Study, fold: Fold) -> None:
    """What stands of a fold's spatial teacher."""
    for unit in (cache.unit_of(study, fold, "spatial"), cache.teacher_unit(study, fold, "spatial")):
        shutil.rmtree(unit.folder)


def plant(monkeypatch: pytest.MonkeyPatch, subject: str) -> Callable[[], None]:
    """Loaders that are handed a subject's trials too; undone by what is returned."""
    given = FoldData.keys
    monkeypatch.setattr(FoldData, "keys", lambda self, subjects: given(self, [*subjects, subject]))
    return monkeypatch.undo


def test_1_a_student_that_read_a_test_subject(study: Study, first: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(study, "labels alone", first)
    unit = distill.unit_of(study, first, settings)
    shutil.rmtree(unit.folder)
    undo = plant(monkeypatch, first.test[0])
    distill._make("labels alone", study, first, settings, unit)
    undo()
    with pytest.raises(MtkdError, match=f"was trained with {first.test[0]}, a test subject of fold 0"):
        student_answers(study, first, settings, unit)


def test_1_a_teacher_that_read_a_test_stimulus(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = split(study, disjoint_stimuli=True)
    fold = folds_of(apart)[0]
    with monkeypatch.context() as patched:
        patched.setattr(Fold, "takes", lambda self, subject, stimulus: True)
        teach(apart)
    told = f"was trained with {fold.stimuli[0]}, a test stimulus of fold 0"
    with pytest.raises(MtkdError, match=told):
        CachedSource(apart, fold, ["spatial"])
    with pytest.raises(MtkdError, match=told):
        teacher_answers(apart, fold, "spatial")


def test_1_without_the_leak_nothing_of_a_test_stimulus_is_read(study: Study) -> None:
    apart = split(study, disjoint_stimuli=True)
    teach(apart)
    for fold in folds_of(apart):
        heard = cache.teacher_unit(apart, fold, "spatial").manifest().measured
        assert heard["stimuli"]
        assert not set(heard["stimuli"]) & set(fold.stimuli)
        settings = base_settings(apart, "distilled").model_copy(update=SPATIAL)
        _, _, read = distill.train(apart, fold, settings)
        assert not read.stimuli & set(fold.stimuli)
        rows = teacher_answers(apart, fold, "spatial")
        shards = distill.fold_data(apart, fold, [], apart.windows).cutter.shards
        assert {shards.samples[trial].stimulus for trial in rows.trial} == set(fold.stimuli)


def test_2_a_teacher_that_read_a_test_subject(study: Study, first: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(study, first)
    undo = plant(monkeypatch, first.test[0])
    teach(study)
    undo()
    with pytest.raises(MtkdError, match=f"was trained with {first.test[0]}, a test subject of fold 0"):
        CachedSource(study, first, ["spatial"])


def test_2_the_cache_of_another_fold_in_the_place_of_ones_own(study: Study) -> None:
    first, second = folds_of(study)
    own, other = (cache.unit_of(study, fold, "spatial").folder for fold in (first, second))
    shutil.rmtree(own)
    shutil.copytree(other, own)
    with pytest.raises(MtkdError, match=f"{own}: made by cache .*, not by cache"):
        CachedSource(study, first, ["spatial"])


def test_3_a_cross_fitting_teacher_that_read_whom_it_left_out(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    crossed = split(study, crossfit=2)
    fold = folds_of(crossed)[0]
    part = cache.listened_to(crossed, fold, True)[1]
    undo = plant(monkeypatch, part.left_out[0])
    teach(crossed)
    undo()
    told = f"was trained with {part.left_out[0]}, whom cross-fitting left out of fold 0 without part 1"
    with pytest.raises(MtkdError, match=told):
        CachedSource(crossed, fold, ["spatial"])


def test_4_a_statistic_that_was_fitted_on_a_test_subject(
    study: Study, first: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training itself is honest: only its scales have seen the subject."""
    settings = settings_of(study, "labels alone", first)
    unit = distill.unit_of(study, first, settings)
    shutil.rmtree(unit.folder)
    fitted = distill.Student.fit_statistics

    def leaking(self: Any, batches: Any, total: Any) -> None:
        data = distill.fold_data(study, first, settings.modalities, study.windows)
        seen = data.cutter.batch(data.keys(first.test))
        fitted(self, lambda: [*batches(), seen], total)

    with monkeypatch.context() as patched:
        patched.setattr(distill.Student, "fit_statistics", leaking)
        distill._make("labels alone", study, first, settings, unit)
    with pytest.raises(MtkdError, match=f"was trained with {first.test[0]}, a test subject of fold 0"):
        student_answers(study, first, settings, unit)


def test_4_components_that_were_fitted_on_a_test_subject(
    study: Study, first: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher is honest, and so is all it says."""
    reduced = study.model_copy(update={"cache": Cache(n_components=3)})
    read = cache.heard_features

    def leaking(full: Any, keys: Any, name: str) -> Any:
        return read(full, [*keys, *(key for key, own in full.samples.items() if own.subject == first.test[0])], name)

    def ask() -> CachedSource:
        for job in jobs_of(reduced, "spatial", lambda own, fold: cache.unit_of(own, fold, "spatial")):
            if job.fold.index == first.index and not job.unit.stands():
                cache._write(job, "spatial")
        return CachedSource(reduced, first, ["spatial"])

    with monkeypatch.context() as patched:
        patched.setattr(cache, "heard_features", leaking)
        with pytest.raises(MtkdError, match=f"was trained with {first.test[0]}, a test subject of fold 0"):
            ask()
    shutil.rmtree(cache.unit_of(reduced, first, "spatial").folder)
    ask()


def test_4_a_statistic_of_whole_recordings_without_saying_so(pipeline: Any) -> None:
    eog = "signals.modalities.eog={sfreq: 128}"
    with pytest.raises(MtkdError, match="ica is fitted on whole recordings; transductive allows it"):
        read_study(pipeline.file, [eog, "signals.modalities.eeg={sfreq: 128, phase: zero, steps: [ica]}"])


def test_5_an_epoch_that_was_chosen_on_a_test_subject(
    study: Study, first: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(study, "labels alone", first)
    unit = distill.unit_of(study, first, settings)
    shutil.rmtree(unit.folder)
    given = FoldData.keys
    with monkeypatch.context() as patched:
        patched.setattr(
            FoldData, "keys", lambda self, own: given(self, own + first.test[:1] if own == first.val else own)
        )
        distill._make("labels alone", study, first, settings, unit)
    with pytest.raises(MtkdError, match=f"was trained with {first.test[0]}, a test subject of fold 0"):
        student_answers(study, first, settings, unit)


@pytest.mark.parametrize("swapped_keys", [("folds", "seals"), ("folds",)])
def test_5_settings_that_were_chosen_on_test_subjects(
    study: Study, first: Fold, tmp_path: Path, swapped_keys: tuple[str, ...]
) -> None:
    """The other fold's, whose validation subjects are among this one's test subjects."""
    assert set(folds_of(study)[1].val) & set(first.test)
    found = yaml.safe_load((Path(study.workspace) / "sweep/best-distilled-swept.yaml").read_text(encoding="utf-8"))
    found["folds"][1] = found["folds"][1] | {"temperature": 4.9}  # both folds may have found the same
    for key in swapped_keys:
        found[key] = {0: found[key][1], 1: found[key][0]}
    swapped = tmp_path / "best.yaml"
    swapped.write_text(yaml.safe_dump(found), encoding="utf-8")
    base = base_settings(study, "distilled").model_copy(update={"settings": str(swapped)})
    with pytest.raises(MtkdError, match="chosen on other data, labels, windows, cross-fitting or another split"):
        apply_best(study, base, swapped, first)
