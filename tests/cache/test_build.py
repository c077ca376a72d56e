"""The cache on disk: shards beside the data's."""

import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from mtkd.cache import build
from mtkd.cache.members import PARTS
from mtkd.config import Study, TeacherName
from mtkd.files import read_json, write_json
from mtkd.shards.build import open_shards
from mtkd.shards.read import ShardSet
from mtkd.signals.readers.pickles import load_arrays
from mtkd.signals.windows import n_windows
from mtkd.training.fold import Job, folds_of


@pytest.fixture
def caches(pipeline: Any) -> dict[tuple[TeacherName, int], Path]:
    """Folders by teacher and fold."""
    return {
        (teacher, fold.index): build.unit_of(pipeline.study, fold, teacher).folder
        for teacher in build.TEACHERS
        for fold in folds_of(pipeline.study)
    }


def test_every_teacher_and_fold_has_one(pipeline: Any, caches: dict[tuple[TeacherName, int], Path]) -> None:
    assert sorted(caches.values()) == pipeline.units("cache")
    assert len(caches) == 4


def test_tars_keys_and_order_are_the_datas(pipeline: Any, caches: dict[tuple[TeacherName, int], Path]) -> None:
    data = open_shards(pipeline.study)[0].folder
    for cache in caches.values():
        assert sorted(path.name for path in cache.glob("*.tar")) == sorted(path.name for path in data.glob("*.tar"))
        for path in data.glob("*.tar"):
            keys = []
            for folder in (data, cache):
                with tarfile.open(folder / path.name) as tar:
                    names = [name.partition(".")[0] for name in tar.getnames()]
                keys.append(list(dict.fromkeys(names)))
            assert keys[0] == keys[1]
        ours, theirs = ShardSet(cache).index.shards, ShardSet(data).index.shards
        assert [(name, [sample.key for sample in group]) for name, group in ours.items()] == [
            (name, [sample.key for sample in group]) for name, group in theirs.items()
        ]


def test_reading_all_is_a_zip_of_streams(pipeline: Any, caches: dict[tuple[TeacherName, int], Path]) -> None:
    """By WebDataset's own reader, which knows no index."""
    data = open_shards(pipeline.study)[0].folder
    names = sorted(path.name for path in data.glob("*.tar"))
    streams = (
        webdataset.WebDataset([str(folder / name) for name in names], shardshuffle=False).decode()
        for folder in (data, caches["temporal", 0], caches["spatial", 0])
    )
    n_trials = 0
    for trial, temporal, spatial in zip(*streams, strict=True):
        assert trial["__key__"] == temporal["__key__"] == spatial["__key__"]
        together = trial | temporal | spatial
        for teacher in build.TEACHERS:  # their names do not meet
            assert together[f"{teacher}.npy"].dtype.names == PARTS
        assert len(temporal["temporal.npy"]) == n_windows(trial["meta.json"]["duration_s"], 6.0, 6.0) == 10
        n_trials += 1
    assert n_trials == 23  # six subjects of four trials, one with three


def test_members_have_the_stated_types_and_shapes(pipeline: Any, caches: dict[tuple[TeacherName, int], Path]) -> None:
    sizes = {"temporal": 576, "spatial": 2 * pipeline.study.spatial.width}
    for (teacher, _), cache in caches.items():
        shards = ShardSet(cache)
        for key, sample in shards.samples.items():
            assert list(sample.members) == [f"{teacher}.npy"]
            expected = {"logits": (10, 4), "features": (10, sizes[teacher]), "confidence": (10,), "mask": (10,)}
            rows = shards.read(key, f"{teacher}.npy")
            found = {part: rows[part] for part in expected}
            assert {part: array.shape for part, array in found.items()} == expected
            assert [str(found[part].dtype) for part in expected] == ["float16", "float16", "float32", "bool"]
            assert found["mask"].all()
            assert ((found["confidence"] > 0) & (found["confidence"] < 1)).all()
            assert np.isfinite(found["features"]).all()


def test_unrated_trials_are_in_it(caches: dict[tuple[TeacherName, int], Path]) -> None:
    for cache in caches.values():
        assert ShardSet(cache).samples["s03_t01"].ratings == {}


@pytest.mark.parametrize("teacher", build.TEACHERS)
def test_the_manifest_names_fold_subjects_and_weights(pipeline: Any, teacher: TeacherName) -> None:
    for fold in folds_of(pipeline.study):
        inputs = read_json(build.unit_of(pipeline.study, fold, teacher).folder / "manifest.json")["inputs"]
        assert (inputs["teacher"], inputs["fold"], inputs["split"]) == (teacher, fold.index, fold.fingerprint)
        assert inputs["subjects"] == {"train": fold.train, "val": fold.val}
        assert inputs["weights"] == build.teacher_unit(pipeline.study, fold, teacher).manifest().digest


def test_written_again_it_is_the_same_to_the_byte(pipeline: Any, tmp_path: Path) -> None:
    """By as many threads as before, by whose number sums are taken in another order."""
    study = pipeline.copy(tmp_path / "workspace")
    units = [build.unit_of(study, folds_of(study)[0], teacher) for teacher in build.TEACHERS]
    original = [build.unit_of(pipeline.study, folds_of(study)[0], name).manifest().digest for name in build.TEACHERS]
    for unit in units:
        shutil.rmtree(unit.folder)
    command = [sys.executable, "-m", "mtkd", "cache", str(pipeline.file), f"workspace={study.workspace}"]
    subprocess.run(command, check=True, timeout=300)
    assert [unit.manifest().digest for unit in units] == original


def test_language_models_answer_in_turn_and_graphs_side_by_side(
    pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may each take all the memory there is, and all cores; the others are small."""
    study = pipeline.copy(tmp_path / "workspace")
    shutil.rmtree(tmp_path / "workspace/cache")

    def note(job: Job, teacher: TeacherName) -> None:
        where = {"process": os.getpid(), "threads": torch.get_num_threads()}
        write_json(tmp_path / f"{teacher}-{job.fold.index}.json", where)

    monkeypatch.setattr(build, "_write", note)
    build.run(study)
    ours = {"process": os.getpid(), "threads": torch.get_num_threads()}
    assert [read_json(path) for path in sorted(tmp_path.glob("temporal-*.json"))] == [ours, ours]
    others = [read_json(path) for path in sorted(tmp_path.glob("spatial-*.json"))]
    assert [each["threads"] for each in others] == [1, 1]
    assert os.getpid() not in {each["process"] for each in others}


def test_a_recording_whose_trials_hold_no_window_is_left_out(
    make_study: Callable[..., Study], small_raw: Path, mtkd: Callable[..., Any], tmp_path: Path
) -> None:
    raw = shutil.copytree(small_raw, tmp_path / "raw")
    arrays = load_arrays((raw / "s06.dat").read_bytes(), "s06.dat")
    short = {"data": arrays["data"][:, :, : 128 * (3 + 4)], "labels": arrays["labels"]}
    (raw / "s06.dat").write_bytes(pickle.dumps(short, protocol=2))
    study = make_study(f"data.folder={raw}", "spatial.optim.epochs=1", workspace=tmp_path / "ws")
    write_json(tmp_path / "study.yaml", study.model_dump())
    for stage in ("shards", "spatial"):
        ended = mtkd(stage, tmp_path / "study.yaml")
        assert ended.code == 0, ended.err
    fold = folds_of(study)[0]
    unit = build.unit_of(study, fold, "spatial")
    build._write(Job(study, fold, unit, ""), "spatial")
    assert len(open_shards(study)[1].index.shards) == 6
    assert [tar for tar in ShardSet(unit.folder).index.shards if "s06" in tar] == []
    assert len(ShardSet(unit.folder).index.shards) == 5
