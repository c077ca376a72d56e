"""Soft labels for training subjects, from teachers that were trained without them."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtkd.cache import build
from mtkd.cache.live import LiveSource
from mtkd.cache.source import CachedSource, Source
from mtkd.cluster import most_units
from mtkd.config import Study, TeacherName
from mtkd.distill import train as module
from mtkd.distill.train import build_model, objective, train
from mtkd.distill.train import unit_of as student_unit
from mtkd.errors import MtkdError
from mtkd.evaluate.run import _heard as heard
from mtkd.files import fingerprint, read_json
from mtkd.shards import build as shards
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.index import read_index
from mtkd.signals.splits import Fold, crossfit
from mtkd.study import changed
from mtkd.teachers.spatial import train as spatial
from mtkd.teachers.temporal import train as temporal
from mtkd.teachers.temporal.unpack import outline
from mtkd.teachers.temporal.work import work_of
from mtkd.training.fold import Job, fold_data, folds_of, jobs_of
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit

TEACHERS: list[TeacherName] = ["temporal", "spatial"]


@pytest.fixture(scope="module")
def study(make_study: Callable[..., Study], tiny_llama: Path) -> Study:
    """Two folds of two training subjects, each of which is left out once; all teachers and caches stand.

    And those of a teacher that teaches nobody, which is trained on the folds alone.
    """
    changes = (f"temporal.backbone={tiny_llama}", "temporal.optim.epochs=1", "spatial.optim.epochs=1")
    changes += ("evaluate.teachers={fixed edges: {spatial: {learned_adjacency: false}}}",)
    study = make_study("splits.crossfit=2", "temporal.deepspeed=null", *changes)
    shards.run(study)
    for job in jobs_of(study, "temporal", temporal.unit_of):
        temporal._train(job, Runtime(study.temporal.optim))
    spatial.run(study)
    build.run(study)
    return study


@pytest.fixture
def copied(study: Study, tmp_path: Path) -> Study:
    shutil.copytree(study.workspace, tmp_path / "workspace", symlinks=True)
    return study.model_copy(update={"workspace": str(tmp_path / "workspace")})


@pytest.fixture
def fold(study: Study) -> Fold:
    return folds_of(study)[0]


def some_trials(study: Study, fold: Fold) -> Batch:
    """Two trials of every subject, those of one never behind each other."""
    cutter = fold_data(study, fold, [], study.windows).cutter
    return cutter.batch([f"{subject}_t0{trial}" for trial in (1, 3) for subject in cutter.shards.index.subjects])


def test_every_teacher_is_a_unit_that_says_whom_it_heard(study: Study) -> None:
    for teacher in TEACHERS:
        jobs = jobs_of(study, teacher, functools.partial(build.teacher_unit, teacher=teacher))
        names = [job.unit.folder.name.rpartition("-")[0] for job in jobs if not job.name]
        assert names[:2] == ["fold-0", "fold-1"]
        assert names[2:] == [f"fold-{index}-without-{part}" for index in (0, 1) for part in (1, 2)]
        assert [job.fold.name for job in jobs if job.name] == (["fold-0", "fold-1"] if teacher == "spatial" else [])
        assert len(jobs) <= most_units(study, teacher)
        for job in jobs:
            assert job.unit.manifest().measured["subjects"] == sorted(job.fold.train + job.fold.val)
    assert most_units(study, "cache") == 14
    assert len(list((Path(study.workspace) / "cache").glob("*/manifest.json"))) == 14


def test_the_cache_of_one_holds_whom_it_left_out(study: Study, fold: Fold) -> None:
    for each in (fold, *crossfit(fold, study.splits)):
        for teacher in TEACHERS:
            samples = read_index(build.unit_of(study, each, teacher).folder).samples
            subjects = each.left_out or fold.train + fold.val + fold.test
            assert sorted(sample.key for sample in samples) == sorted(
                f"{s}_t0{n}" for s in subjects for n in range(1, 5)
            )


@pytest.mark.parametrize("crossed", [True, False])
def test_each_subject_is_answered_by_who_did_not_train_on_it(study: Study, fold: Fold, crossed: bool) -> None:
    batch, set_of_shards = some_trials(study, fold), shards.open_shards(study)[1]
    cached = CachedSource(study, fold, TEACHERS, crossed)(batch)
    subject_of = {sample.key: sample.subject for sample in set_of_shards.index.samples}
    for teacher in TEACHERS:
        said = {}
        for each in (fold, *crossfit(fold, study.splits)):
            own = build.load_teacher(study, set_of_shards, each, teacher).say(batch.keys)
            said |= dict.fromkeys(each.left_out if crossed or not each.part else [], own)
            if not each.part:
                whole = own
        for row, key in enumerate(batch.keys):
            expected = said.get(subject_of[key], whole)
            torch.testing.assert_close(cached[teacher].logits[row], expected.logits[row], rtol=1e-2, atol=1e-3)
        assert not crossed or set(said) == set(fold.train)
        if crossed:
            first = batch.keys.index(f"{fold.train[0]}_t01")
            assert not torch.allclose(cached[teacher].logits[first], whole.logits[first], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("crossed", [True, False])
def test_a_live_source_asks_the_same_teachers(study: Study, fold: Fold, crossed: bool) -> None:
    batch, opened = some_trials(study, fold), shards.open_shards(study)[1]
    cached: Source = CachedSource(study, fold, TEACHERS, crossed)
    live: Source = LiveSource(study, opened, fold, TEACHERS, crossed)
    ours, theirs = cached(batch), live(batch)
    for teacher in TEACHERS:
        assert torch.equal(cached.masks(batch)[teacher], live.masks(batch)[teacher])
        for part in ("logits", "features", "confidence", "mask"):
            a, b = getattr(ours[teacher], part), getattr(theirs[teacher], part)
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
        folds = [fold, *crossfit(fold, study.splits)]
        units = [build.unit_of(study, each, teacher).fingerprint for each in folds]
        assert ours[teacher].fingerprint == (fingerprint(units) if crossed else units[0])
        assert theirs[teacher].fingerprint not in ("", ours[teacher].fingerprint)


def test_a_student_hears_what_its_settings_say(study: Study, fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the training asks its teachers is asked of a source that is crossed, or not, as the student is."""
    learned = {}
    for crossed in (True, False):
        settings = changed(study.distill, {"crossfit": crossed, "optim.epochs": 1}, "")
        learned[crossed] = train(study, fold, settings)[0].state_dict()
        monkeypatch.setattr(module, "CachedSource", lambda *given, own=crossed: CachedSource(*given[:3], own))
        again = train(study, fold, settings)[0].state_dict()
        monkeypatch.undo()
        assert all(torch.equal(again[name], value) for name, value in learned[crossed].items())
    assert not all(torch.equal(learned[True][name], value) for name, value in learned[False].items())


def test_what_is_of_one_training_is_not_held_against_what_is_of_another(study: Study, fold: Fold) -> None:
    """Features of another training of a teacher are others: each has its own projection, and its own relations."""
    settings = changed(study.distill, {"rkd": 1.0, "contrast": 1.0, "similarity": 1.0}, "")
    data = fold_data(study, fold, settings.modalities, study.windows)
    model = build_model(study, data.cutter.shards, fold, settings)
    parts = crossfit(fold, study.splits)
    batch = data.cutter.batch([key for part in parts for key in data.keys(part.left_out)])
    terms = objective(study, settings, data, CachedSource(study, fold, TEACHERS))(model, batch)
    own = [key in data.keys(parts[0].left_out) for key in batch.keys]
    sum(terms[f"{loss}/spatial"].value[own].sum() for loss in ("hint", "contrast", "rkd", "similarity")).backward()
    whole, first, second = (space.weight.grad for space in model.projections["spatial"].spaces)
    assert first.any()
    assert whole is None or not whole.any()
    assert second is None or not second.any()


def test_students_that_hear_others_are_others(copied: Study, fold: Fold) -> None:
    def unit(**changes: Any) -> Unit:
        return student_unit(copied, fold, changed(copied.distill, changes, ""))

    before, plain = unit().fingerprint, unit(crossfit=False).fingerprint
    assert before != plain
    assert unit(teachers={}).fingerprint == unit(teachers={}, crossfit=False).fingerprint
    cached = build.unit_of(copied, crossfit(fold, copied.splits)[1], "spatial")
    content = read_json(cached.folder / "manifest.json")
    shutil.rmtree(cached.folder)
    with cached.build() as (folder, measured):  # as if its teacher had said something else
        measured.update(content["measured"])
        (folder / "other").touch()
    assert unit().fingerprint != before
    assert unit(crossfit=False).fingerprint == plain


def test_a_study_without_parts_has_one_kind_of_student(pipeline: Any) -> None:
    study = pipeline.study
    kinds = [changed(study.distill, {"crossfit": crossed}, "") for crossed in (False, True)]
    plain, crossed = (student_unit(study, folds_of(study)[0], settings) for settings in kinds)
    assert plain.fingerprint == crossed.fingerprint


def test_the_report_is_told_who_heard_whom(study: Study) -> None:
    students = {"alone": {"teachers": {}}, "distilled": {}, "plain": {"crossfit": False}}
    study = study.model_copy(update={"evaluate": study.evaluate.model_copy(update={"students": students})})
    assert heard(study) == {"plain": ["plain"], "crossed": ["distilled"]}
    alike = study.model_copy(update={"splits": study.splits.model_copy(update={"crossfit": 1})})
    assert heard(alike) == {"plain": ["distilled", "plain"], "crossed": []}


def test_whom_nothing_can_be_asked_about_is_told(copied: Study, fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    part, n_steps = crossfit(fold, copied.splits)[0], Cutter.n_steps
    shutil.rmtree(build.unit_of(copied, part, "spatial").folder)
    monkeypatch.setattr(Cutter, "n_steps", lambda cutter, each: n_steps(cutter, each) * (each.subject in part.train))
    with pytest.raises(
        MtkdError, match=f"^cache: fold 0 without part 1: no trial of {part.left_out[0]} holds a window; "
    ):
        build._write(Job(copied, part, build.unit_of(copied, part, "spatial"), ""), "spatial")


def test_a_teacher_that_was_given_whom_it_left_out_is_refused(
    copied: Study, fold: Fold, leak: Callable[[Study, Fold, str], None]
) -> None:
    """The planted leak: it hears a trial of the subject whose soft labels it is to give."""
    part = crossfit(fold, copied.splits)[1]
    unit = build.teacher_unit(copied, part, "spatial")
    leak(copied, part, part.left_out[0])
    wanted = f"was trained with {part.left_out[0]}, whom cross-fitting left out of fold 0 without part 2$"
    with pytest.raises(MtkdError, match=f"^{build.unit_of(copied, part, 'spatial').folder}: {wanted}"):
        CachedSource(copied, fold, ["spatial"])
    with pytest.raises(MtkdError, match=f"^{unit.folder}: {wanted}"):
        LiveSource(copied, shards.open_shards(copied)[1], fold, ["spatial"])
    CachedSource(copied, fold, ["spatial"], crossed=False)  # who does not hear it is not concerned


def test_what_one_did_not_say_is_heard_from_no_other(
    copied: Study, fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = crossfit(fold, copied.splits)[0]
    unit = build.unit_of(copied, part, "spatial")
    shutil.rmtree(unit.folder)
    with pytest.raises(MtkdError, match=f"^{unit.folder}: not there yet; run `mtkd cache` first"):
        CachedSource(copied, fold, ["spatial"])
    answers = build.answers
    monkeypatch.setattr(build, "answers", lambda samples, *others: answers(samples[1:], *others))
    build.run(copied)
    with pytest.raises(
        MtkdError, match=f"^{unit.folder}: has no answer for the trial {part.left_out[0]}_t01; delete it"
    ):
        CachedSource(copied, fold, ["spatial"])


def test_they_are_planned(study: Study, tmp_path: Path) -> None:
    """A fold's teacher reads two subjects of four trials, each of its parts one."""
    work = work_of(study, outline(study, tmp_path / "outline"), Runtime(study.temporal.optim))
    assert work.n_teachers == 6
    assert work.n_trials == 2 * (8 + 4 + 4)
