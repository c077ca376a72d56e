"""The student's training: what enters its loss, what it depends on, and what it never sees."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from mtkd.cache.source import CachedSource
from mtkd.config import Distill, Study
from mtkd.distill.combine import teacher_weights
from mtkd.distill.losses import hint, kd
from mtkd.distill.settings import settings_of
from mtkd.distill.student import Student
from mtkd.distill.train import build_model, load_model, objective, train, unit_of
from mtkd.errors import MtkdError
from mtkd.shards import build as shards_build
from mtkd.shards.batch import Batch
from mtkd.shards.index import write_index
from mtkd.shards.schema import SampleInfo, encode_array
from mtkd.shards.write import write_shard
from mtkd.signals.splits import Fold
from mtkd.teachers.spatial import train as spatial
from mtkd.training.fit import trained_state
from mtkd.training.fold import FoldData, Job, fold_data, folds_of
from mtkd.workspace import Unit

UNRATED = "s03_t01"


@pytest.fixture
def fold(pipeline: Any) -> Fold:
    """The one that trains on the subject with an unrated trial."""
    return next(fold for fold in folds_of(pipeline.study) if "s03" in fold.train + fold.val)


def prepared(study: Study, fold: Fold, settings: Distill) -> tuple[FoldData, Student, Batch]:
    """A student before training and a batch of an unrated and two rated trials."""
    data = fold_data(study, fold, settings.modalities, study.windows)
    torch.manual_seed(0)
    model = build_model(study, data.cutter.shards, data.fold, settings).eval()
    return data, model, data.cutter.batch([UNRATED, "s03_t02", "s03_t03"])


def test_unrated_trials_teach_through_the_teachers_alone(pipeline: Any, fold: Fold) -> None:
    study = pipeline.study
    data, model, batch = prepared(study, fold, study.distill)
    terms = objective(study, study.distill, data, CachedSource(study, fold, ["temporal", "spatial"]))(model, batch)
    assert batch.labels[0] == -1
    for name in ("class", "confidence"):
        assert terms[name].mask.sum(1).tolist() == [0, 10, 10]
    for name in ("kd/temporal", "kd/spatial", "hint/temporal", "hint/spatial"):
        assert terms[name].mask.sum(1).tolist() == [10, 10, 10]
        assert (terms[name].value[0] > 0).all()


@pytest.mark.parametrize("weighting", ["equal", "confidence", "camkd"])
def test_the_loss_is_the_protocols(pipeline: Any, fold: Fold, weighting: str) -> None:
    """L = CE + sum_k w_k [kd T^2 KL + hint ||proj_k(f_s) - f_k||^2], put together by hand."""
    study = pipeline.study
    changes = {"weighting": weighting, "teachers": {"temporal": 0.7, "spatial": 0.2}, "kd": 3.0, "hint": 0.5}
    settings = study.distill.model_copy(update=changes)
    data, model, batch = prepared(study, fold, settings)
    source = CachedSource(study, fold, ["temporal", "spatial"])
    terms = objective(study, settings, data, source)(model, batch)
    said, signal = source(batch), model(batch)
    weights = teacher_weights(said, weighting, batch.labels)
    for name, teacher in said.items():
        mask, projected = signal.mask & teacher.mask, model.projections[name](signal.features, source.asked(batch))
        divergence = weights[name] * kd(signal, teacher, mask, temperature=settings.temperature)
        distance = weights[name] * hint(signal._replace(features=projected), teacher, mask)
        torch.testing.assert_close(terms[f"kd/{name}"].value, divergence)
        torch.testing.assert_close(terms[f"hint/{name}"].value, distance)
        assert terms[f"kd/{name}"].weight == pytest.approx(3.0 * settings.teachers[name])
        assert terms[f"hint/{name}"].weight == pytest.approx(0.5 * settings.teachers[name])
    assert terms["class"].weight == settings.ce


def test_switches_leave_terms_out(pipeline: Any, fold: Fold) -> None:
    study = pipeline.study
    for changes, expected in (
        ({"teachers": {}}, {"class", "confidence"}),
        ({"teachers": {"spatial": 1.0}}, {"class", "confidence", "kd/spatial", "hint/spatial"}),
        ({"teachers": {"temporal": 0.0, "spatial": 1.0}}, {"class", "confidence", "kd/spatial", "hint/spatial"}),
        ({"teachers": {"temporal": 1.0}, "hint": 0.0}, {"class", "confidence", "kd/temporal"}),
    ):
        settings = study.distill.model_copy(update=changes)
        data, model, batch = prepared(study, fold, settings)
        source = CachedSource(study, fold, list(settings.teachers))
        assert set(objective(study, settings, data, source)(model, batch)) == expected
        assert bool(model.projections) == any("hint" in name for name in expected)


def test_windows_a_teacher_did_not_answer_are_left_out(pipeline: Any, fold: Fold) -> None:
    study = pipeline.study
    data, model, batch = prepared(study, fold, study.distill)

    class WithoutSome(CachedSource):
        def __call__(self, batch: Batch) -> dict:
            said = super().__call__(batch)
            said["spatial"].mask[1, :4] = False
            return said

    terms = objective(study, study.distill, data, WithoutSome(study, fold, ["temporal", "spatial"]))(model, batch)
    assert terms["kd/spatial"].mask.sum(1).tolist() == [10, 6, 10]
    assert terms["kd/temporal"].mask.sum(1).tolist() == [10, 10, 10]
    assert terms["class"].mask.sum(1).tolist() == [0, 10, 10]


@pytest.mark.parametrize("name", ["labels alone", "distilled"])
def test_training_again_gives_the_same_weights(pipeline: Any, name: str) -> None:
    """In another process than the pipeline's, which trained its folds side by side."""
    fold = folds_of(pipeline.study)[0]
    settings = settings_of(pipeline.study, name, fold)
    model, history, _ = train(pipeline.study, fold, settings)
    unit = unit_of(pipeline.study, fold, settings)
    assert json.loads((unit.folder / "history.json").read_text()) == history.epochs
    written = safetensors.torch.load_file(unit.folder / "weights.safetensors")
    assert all(torch.equal(written[key], value) for key, value in trained_state(model).items())


def test_a_trained_student_reads_back_in_evaluation_mode(pipeline: Any) -> None:
    fold = folds_of(pipeline.study)[0]
    data = fold_data(pipeline.study, fold, pipeline.study.distill.modalities, pipeline.study.windows)
    unit = unit_of(pipeline.study, fold, pipeline.study.distill)
    model = load_model(pipeline.study, data.cutter.shards, data.fold, pipeline.study.distill, unit.folder)
    assert not model.training
    batch = data.cutter.batch(data.keys(fold.val))
    with torch.inference_mode():
        losses = torch.nn.functional.cross_entropy(
            model(batch).logits.flatten(0, 1), batch.labels.repeat_interleave(10), reduction="none", ignore_index=-1
        ).view(len(batch.keys), 10)[batch.labels >= 0]
    alone = CachedSource(pipeline.study, fold, [])
    weights = objective(pipeline.study, pipeline.study.distill, data, alone)(model, batch)["class"]
    best = unit.manifest().measured["best"]["val/class"]
    assert best == pytest.approx(weights.value[weights.mask].mean().item(), rel=1e-4)
    assert losses.isfinite().all()


def test_students_depend_on_their_own_teachers_only(pipeline: Any, tmp_path: Path, mtkd: Callable[..., Any]) -> None:
    study, fold = pipeline.copy(tmp_path / "workspace"), folds_of(pipeline.study)[0]
    original = spatial.unit_of(pipeline.study, fold)
    target = Unit("spatial", Path(study.workspace) / "spatial" / original.folder.name, original.inputs)
    state = safetensors.torch.load_file(target.folder / "weights.safetensors")
    before = target.manifest().measured
    shutil.rmtree(target.folder)
    with target.build() as (folder, measured):
        measured.update(before)
        safetensors.torch.save_file(
            {name: value + 0.01 for name, value in state.items()}, folder / "weights.safetensors"
        )
    assert mtkd("cache", pipeline.file, f"workspace={study.workspace}").code == 0
    for teachers, same in (({}, True), ({"temporal": 1.0}, True), ({"spatial": 1.0}, False)):
        settings = study.distill.model_copy(update={"teachers": teachers})
        ours, theirs = unit_of(study, fold, settings), unit_of(pipeline.study, fold, settings)
        assert (ours.fingerprint == theirs.fingerprint) == same


def plant_noise(study: Study, workspace: Path, subjects: list[str]) -> Study:
    """The study's shards anew, with nothing but NaN and wrong ratings in some subjects."""
    other = study.model_copy(update={"workspace": str(workspace)})
    _, original = shards_build.open_shards(study)
    with shards_build.unit_of(other).build() as (folder, _):
        index = {}
        for name, samples in original.index.shards.items():
            rewritten = []
            for sample in samples:
                planted = sample.subject in subjects
                members = {}
                for member in sample.members:
                    if member.endswith(".npy"):
                        array = original.read(sample.key, member)
                        if planted and array.dtype.kind == "f":
                            array = np.full_like(array, np.nan)
                        members[member] = encode_array(array)
                info = sample.model_dump(exclude={"members"})
                if planted:
                    info["ratings"] = {rating: 10 - value for rating, value in info["ratings"].items()}
                members["meta.json"] = b"{}"
                rewritten.append((SampleInfo(**info), members))
            index[name] = write_shard(folder / name, rewritten)
        write_index(folder, index)
    return other


def test_test_subjects_leave_no_trace_in_anything_trained(pipeline: Any, tmp_path: Path) -> None:
    """With the test subjects' signals destroyed and their ratings turned round, all weights are the same to the bit."""
    fold = folds_of(pipeline.study)[0]
    planted = plant_noise(pipeline.study, tmp_path / "workspace", fold.test)
    assert shards_build.unit_of(planted).manifest().digest != shards_build.unit_of(pipeline.study).manifest().digest
    settings = settings_of(pipeline.study, "labels alone", fold)
    model, history, _ = train(planted, fold, settings)
    unit = unit_of(pipeline.study, fold, settings)
    assert json.loads((unit.folder / "history.json").read_text()) == history.epochs
    written = safetensors.torch.load_file(unit.folder / "weights.safetensors")
    assert all(torch.equal(written[key], value) for key, value in trained_state(model).items())
    teacher = spatial.unit_of(planted, fold)
    spatial._train(Job(planted, fold, teacher, ""))
    original = spatial.unit_of(pipeline.study, fold).folder / "weights.safetensors"
    assert (teacher.folder / "weights.safetensors").read_bytes() == original.read_bytes()


def test_and_validation_subjects_do(pipeline: Any, tmp_path: Path) -> None:
    """The plant above can be found: the same done to a validation subject ends the training."""
    fold = folds_of(pipeline.study)[0]
    planted = plant_noise(pipeline.study, tmp_path / "workspace", fold.val)
    with pytest.raises(MtkdError, match=r"s\d\d\.tar: .* is no such array \(ValueError: values that are not finite\)"):
        train(planted, fold, settings_of(pipeline.study, "labels alone", fold))
