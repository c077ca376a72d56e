"""The cache on disk: shards beside the data's."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from mtkd.cache import build
from mtkd.files import read_json
from mtkd.shards.build import open_shards
from mtkd.shards.read import ShardSet
from mtkd.signals.windows import n_windows
from mtkd.training.fold import folds_of

MEMBERS = [
    f"{teacher}.{part}.npy"
    for teacher in ("temporal", "spatial")
    for part in ("logits", "features", "confidence", "mask")
]


@pytest.fixture
def caches(pipeline: Any) -> list[Path]:
    return [build.unit_of(pipeline.study, fold).folder for fold in folds_of(pipeline.study)]


def test_every_fold_has_one(pipeline: Any, caches: list[Path]) -> None:
    assert sorted(caches) == pipeline.units("cache")
    assert len(caches) == 2


def test_tars_keys_and_order_are_the_datas(pipeline: Any, caches: list[Path]) -> None:
    data = open_shards(pipeline.study)[0].folder
    for cache in caches:
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


def test_reading_both_is_a_zip_of_two_streams(pipeline: Any, caches: list[Path]) -> None:
    """By WebDataset's own reader, which knows no index."""
    data = open_shards(pipeline.study)[0].folder
    names = sorted(path.name for path in data.glob("*.tar"))
    ours, theirs = (
        webdataset.WebDataset([str(folder / name) for name in names], shardshuffle=False).decode()
        for folder in (caches[0], data)
    )
    n_trials = 0
    for said, trial in zip(ours, theirs, strict=True):
        assert said["__key__"] == trial["__key__"]
        assert set(MEMBERS) <= said.keys()
        assert len(said["temporal.logits.npy"]) == n_windows(trial["meta.json"]["duration_s"], 6.0, 6.0) == 10
        n_trials += 1
    assert n_trials == 23  # six subjects of four trials, one with three


def test_members_have_the_stated_types_and_shapes(pipeline: Any, caches: list[Path]) -> None:
    sizes = {"temporal": 576, "spatial": 2 * pipeline.study.spatial.width}
    for cache in caches:
        shards = ShardSet(cache)
        for key, sample in shards.samples.items():
            assert sorted(sample.members) == sorted(MEMBERS)
            for teacher, n_features in sizes.items():
                expected = {"logits": (10, 4), "features": (10, n_features), "confidence": (10,), "mask": (10,)}
                found = {part: shards.read(key, f"{teacher}.{part}.npy") for part in expected}
                assert {part: array.shape for part, array in found.items()} == expected
                assert [str(found[part].dtype) for part in expected] == ["float16", "float16", "float32", "bool"]
                assert found["mask"].all()
                assert ((found["confidence"] > 0) & (found["confidence"] < 1)).all()
                assert np.isfinite(found["features"]).all()


def test_unrated_trials_are_in_it(caches: list[Path]) -> None:
    assert "s03_t01" in ShardSet(caches[0]).samples
    assert ShardSet(caches[0]).samples["s03_t01"].ratings == {}


def test_the_manifest_names_fold_subjects_and_weights(pipeline: Any) -> None:
    for fold in folds_of(pipeline.study):
        inputs = read_json(build.unit_of(pipeline.study, fold).folder / "manifest.json")["inputs"]
        assert (inputs["fold"], inputs["split"]) == (fold.index, fold.fingerprint)
        assert inputs["subjects"] == {"train": fold.train, "val": fold.val}
        for teacher in ("temporal", "spatial"):
            assert inputs["teachers"][teacher] == build.teacher_unit(pipeline.study, fold, teacher).manifest().digest


def test_written_again_it_is_the_same_to_the_byte(pipeline: Any, tmp_path: Path) -> None:
    study = pipeline.copy(tmp_path / "workspace")
    first = build.unit_of(study, folds_of(study)[0])
    original = build.unit_of(pipeline.study, folds_of(study)[0]).manifest().digest
    shutil.rmtree(first.folder)
    build.run(study)
    assert first.manifest().digest == original
