"""What a workspace has in stock: told, checked byte by byte, and cleared of what is not used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mtkd.cache import build, stock
from mtkd.cache.source import CachedSource
from mtkd.cli import app
from mtkd.config import Cache, Study
from mtkd.errors import MtkdError
from mtkd.shards.index import read_index, write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import SampleInfo, encode_array
from mtkd.shards.write import write_shard
from mtkd.training.fold import fold_data, folds_of
from mtkd.workspace import Unit


@pytest.fixture
def copied(pipeline: Any, tmp_path: Path) -> Study:
    return pipeline.copy(tmp_path / "workspace")


def caches(study: Study) -> list[Path]:
    return sorted((Path(study.workspace) / "cache").iterdir())


def single(study: Study) -> Study:
    return study.model_copy(update={"cache": Cache(dtype="float32")})


def rewritten(
    unit: Unit, change: Callable[[str, np.ndarray], np.ndarray | None], name: Callable[[str], str] = str
) -> None:
    """The same unit, sealed anew, after a change of its answers (None takes a trial out) and of its keys."""
    shards, before = ShardSet(unit.folder), unit.manifest().measured
    kept: dict[str, list[tuple[SampleInfo, dict[str, bytes]]]] = {}
    for tar, samples in read_index(unit.folder).shards.items():
        for sample in samples:
            ((member, rows),) = ((each, change(sample.key, shards.read(sample.key, each))) for each in sample.members)
            if rows is not None:
                info = SampleInfo(**sample.model_dump(exclude={"members"}) | {"key": name(sample.key)})
                kept.setdefault(tar, []).append((info, {member: encode_array(rows)}))
    shutil.rmtree(unit.folder)
    with unit.build() as (folder, measured):
        measured.update(before)
        write_index(folder, {tar: write_shard(folder / tar, samples) for tar, samples in kept.items()})


def without_number(rows: np.ndarray) -> np.ndarray:
    changed = rows.copy()
    changed["logits"][3] = np.nan
    return changed


def test_each_cache_is_a_line(copied: Study, capsys: pytest.CaptureFixture[str]) -> None:
    build.run(single(copied))
    (caches(copied)[0] / "manifest.json").write_text("{")
    stock.show(copied)
    told = capsys.readouterr().out
    for folder in caches(copied):
        assert folder.name in told
    assert told.count("damaged") == 1
    assert "temporal, fold 0" in told
    assert "spatial, fold 1" in told
    assert f"{len(caches(copied))} caches" in told


def test_what_is_sound_is_told_so(copied: Study, capsys: pytest.CaptureFixture[str]) -> None:
    stock.verify(copied)
    assert capsys.readouterr().out.count("as it should be") == len(caches(copied)) > 0


def test_a_flipped_bit_is_found_though_size_and_times_are_the_same(copied: Study) -> None:
    """By its bytes, whatever is remembered of the file."""
    unit = build.unit_of(copied, folds_of(copied)[0], "spatial")
    unit.manifest()
    tar = next(unit.folder.glob("*.tar"))
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    with pytest.raises(MtkdError, match=rf"cache: 1 of \d+ are not as they should be: delete {unit.folder}$"):
        stock.verify(copied)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda key, rows: rows["logits"], r"s01_t01.temporal.npy holds no answers of a teacher"),
        (lambda key, rows: without_number(rows), r"s01_t01.temporal.npy: the logits of window 3 are no numbers"),
    ],
)
def test_a_cache_that_was_sealed_with_nonsense_is_found(
    copied: Study, capsys: pytest.CaptureFixture[str], change: Any, told: str
) -> None:
    rewritten(build.unit_of(copied, folds_of(copied)[0], "temporal"), change)
    with pytest.raises(MtkdError, match="1 of "):
        stock.verify(copied)
    assert told in capsys.readouterr().out


def test_only_what_the_study_does_not_read_is_deleted(copied: Study, capsys: pytest.CaptureFixture[str]) -> None:
    before = caches(copied)
    build.run(single(copied))
    foreign = Path(copied.workspace) / "cache" / ".temporal.partial-elsewhere-1-00"
    foreign.mkdir()  # what another machine is writing
    own = Path(copied.workspace) / "cache/mine"
    own.mkdir()
    (own / "thesis.txt").write_text("years")
    stock.prune(copied)
    assert caches(copied) == sorted([*before, foreign, own])
    told = capsys.readouterr().out
    assert f"{len(before)} caches deleted" in told
    assert "mine: has no manifest.json, so it is none of mtkd's, and stays" in told
    stock.prune(single(copied))
    assert caches(copied) == sorted([foreign, own])
    assert (own / "thesis.txt").read_text() == "years"


def test_nothing_is_deleted_while_it_is_not_known_what_is_read(copied: Study) -> None:
    before = caches(copied)
    with pytest.raises(MtkdError, match=r"not there yet; run `mtkd temporal` first"):
        stock.prune(copied.model_copy(update={"seed": 7}))
    assert caches(copied) == before


def test_a_cache_without_a_trial_that_the_data_have_is_refused(copied: Study) -> None:
    fold = folds_of(copied)[0]
    unit = build.unit_of(copied, fold, "spatial")
    gone = next(iter(ShardSet(unit.folder).samples))
    rewritten(unit, lambda key, rows: None if key == gone else rows)
    with pytest.raises(MtkdError, match=f"{unit.folder}: has no answer for the trial {gone}; delete it"):
        CachedSource(copied, fold, ["spatial"])


def test_and_one_with_a_trial_that_they_lack(copied: Study) -> None:
    """A trial of the cache whose subject the data know under another name."""
    fold = folds_of(copied)[0]
    unit = build.unit_of(copied, fold, "spatial")
    rewritten(unit, lambda key, rows: rows, lambda key: key.replace("t02", "t77"))
    with pytest.raises(MtkdError, match=r"has no answer for the trial s01_t02; delete it, and `mtkd cache` makes"):
        CachedSource(copied, fold, ["spatial"])
    rewritten(unit, lambda key, rows: rows, lambda key: key.replace("t77", "t02").replace("s01_t01", "a_t01"))
    with pytest.raises(MtkdError, match=r"has the trial a_t01, which the data do not have; delete it"):
        CachedSource(copied, fold, ["spatial"])


def test_an_answer_for_other_windows_is_refused(copied: Study) -> None:
    fold = folds_of(copied)[0]
    unit = build.unit_of(copied, fold, "spatial")
    rewritten(unit, lambda key, rows: rows[:-1])
    source = CachedSource(copied, fold, ["spatial"])
    data = fold_data(copied, fold, [], copied.windows)
    with pytest.raises(MtkdError, match=r"spatial\.npy is of 9 windows, but the trial has 10"):
        source(data.cutter.batch(list(data.cutter.shards.samples)[:2]))


def other_size(rows: np.ndarray, part: str) -> np.ndarray:
    smaller = {name: rows[name] for name in rows.dtype.names or ()}
    smaller[part] = smaller[part][:, :3]
    fields = [(name, values.dtype, values.shape[1:]) for name, values in smaller.items()]
    made = np.empty(len(rows), np.dtype(fields))
    for name, values in smaller.items():
        made[name] = values
    return made


def sure(rows: np.ndarray) -> np.ndarray:
    changed = rows.copy()
    changed["confidence"][2] = 7.0
    return changed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda key, rows: other_size(rows, "logits"), r"logits of shape \(3,\), where 4 are expected"),
        (lambda key, rows: other_size(rows, "features"), r"features of shape \(3,\), where \d+ are expected"),
        (lambda key, rows: without_number(rows), "the logits of window 3 are none that a teacher says"),
        (lambda key, rows: sure(rows), "the confidence of window 2 are none that a teacher says"),
        (lambda key, rows: rows["mask"], "holds no answers of a teacher"),
    ],
)
def test_what_no_teacher_says_is_not_heard(copied: Study, change: Any, told: str) -> None:
    fold = folds_of(copied)[0]
    rewritten(build.unit_of(copied, fold, "spatial"), change)
    source, data = CachedSource(copied, fold, ["spatial"]), fold_data(copied, fold, [], copied.windows)
    with pytest.raises(MtkdError, match=rf"\.tar: s\d\d_t\d\d\.spatial\.npy:? {told}"):
        source(data.cutter.batch(list(data.cutter.shards.samples)[:2]))


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (1e5, "float16")])
def test_a_teacher_that_says_no_number_is_not_written_down(
    copied: Study, monkeypatch: pytest.MonkeyPatch, value: float, dtype: str
) -> None:
    study = copied.model_copy(update={"cache": Cache(dtype=dtype)})
    said = build.Teacher.say

    def odd(self: build.Teacher, keys: list[str]) -> Any:
        signal = said(self, keys)
        signal.features[0, 2] = value
        return signal

    monkeypatch.setattr(build.Teacher, "say", odd)
    for each in caches(copied):
        shutil.rmtree(each)
    with pytest.raises(MtkdError, match=r"teacher's features of window 2 of \w+ are no numbers"):
        build.run(study)
    assert not list(Path(study.workspace).glob("cache/[!.]*"))


def test_by_command(copied: Study, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(copied.workspace).parent / "study.yaml"
    path.write_text(json.dumps(copied.model_dump()))
    before = caches(copied)
    done = CliRunner().invoke(app, ["cache", str(path), "--list", "--verify", "--prune"])
    assert done.exit_code == 0, done.exception
    told = capsys.readouterr().out + done.output
    assert "of this study" in told
    assert "as it should be" in told
    assert "0 caches deleted" in told
    assert caches(copied) == before
