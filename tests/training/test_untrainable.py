"""Data on which nothing can be trained: each with one sentence that says why, before anything is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtkd.config import Windows
from mtkd.errors import MtkdError
from mtkd.shards import build as shards
from mtkd.study import read_study
from mtkd.training.fold import fold_data, folds_of


def test_a_study_of_one_subject(pipeline: Any, mtkd: Callable[..., Any], tmp_path: Path) -> None:
    alone = "data.subjects=[s01]"
    assert shards.run(read_study(pipeline.file, [f"workspace={tmp_path / 'ws'}", alone])).stands()
    told = "splits.n_folds = 2: 1 subject is too few to train on, validate (splits.val_share = 0.25) and test"
    ended = mtkd("spatial", pipeline.file, f"workspace={tmp_path / 'ws'}", alone)
    assert (ended.code, ended.err) == (2, f"mtkd: {told}\n")


def test_validation_subjects_that_were_not_rated(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = folds_of(pipeline.study)[0]
    data = fold_data(pipeline.study, fold, ["eeg"], pipeline.study.windows)
    unrated = replace(data, cutter=replace(data.cutter, hidden=frozenset(fold.val)))
    with pytest.raises(MtkdError, match=r"^fold 0: no validation trial has a rating of valence and arousal$"):
        unrated.class_weights(pipeline.study)


def test_training_subjects_of_one_class(pipeline: Any) -> None:
    fold = folds_of(pipeline.study)[0]
    data = fold_data(pipeline.study, fold, ["eeg"], pipeline.study.windows)
    rated = [data.cutter.shards.samples[key] for key in data.keys(fold.train)]
    least = min(max(sample.ratings["valence"] for sample in rated), 8.9)
    low = pipeline.study.model_copy(update={"labels": {"valence": least}})
    short = fold_data(low, fold, ["eeg"], low.windows)
    with pytest.raises(MtkdError, match=r"^fold 0: every training trial is 'low valence' with labels"):
        short.class_weights(low)


def test_windows_longer_than_any_trial(pipeline: Any) -> None:
    long = pipeline.study.model_copy(update={"windows": Windows(window_s=90, hop_s=90)})
    fold = folds_of(long)[0]
    with pytest.raises(MtkdError, match=r"^fold 0: no trial of s0.* is 90 s long$"):
        fold_data(long, fold, ["eeg"], long.windows).class_weights(long)
