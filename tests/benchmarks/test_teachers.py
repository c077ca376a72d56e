"""The benchmark of the teachers: both sides train the same teacher, and what it counts is what went through."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def rank(repo: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repo / "benchmarks")
        module = importlib.import_module("teachers_rank")
        patch.setattr(module, "N_TRIALS", 5)
        patch.setattr(module, "LENGTHS_S", {"mahnob": (7.0, 13.0), "deap": (8.0, 8.0)})
        yield module


@pytest.fixture(scope="module")
def folder(rank: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of both data sets, and a workspace in which the backbone is unpacked once."""
    made = tmp_path_factory.mktemp("teachers")
    for lengths in ("mahnob", "deap"):
        rank.write_trials(made / lengths, lengths)
    return made


def test_the_peer_has_the_same_loss(rank: ModuleType, folder: Path) -> None:
    """Packed or padded, in evaluation mode, one batch of all trials comes to the same."""
    study = rank.study_of(folder, 1)
    data = rank.data_of(study, folder / "mahnob")
    batch = data.cutter.batch(data.keys(["train"]))
    ours, theirs = (rank.teacher_of(study, data, kind).eval() for kind in (rank.TemporalTeacher, rank.Padded))
    for model in (ours, theirs):
        model.fit_statistics(lambda: [batch], lambda values: values)
    with torch.no_grad():
        expected = theirs._loss(ours(batch), batch)
        torch.testing.assert_close(theirs(batch)["loss"], expected, atol=1e-4, rtol=1e-4)


def test_both_sides_train(rank: ModuleType, folder: Path) -> None:
    study = rank.study_of(folder, 1)
    data = rank.data_of(study, folder / "mahnob")
    rank.ours(study, data, None)(1)
    rank.trainer(study, data, folder)(1)
    lengths = [data.cutter.n_steps(data.cutter.shards.samples[key]) for key in data.keys(["train"])]
    assert rank.n_tokens(study, data, rank.teacher_of(study, data)) == 4 * sum(lengths)


@pytest.mark.usefixtures("rank")
def test_what_was_padded_and_what_was_cached_is_counted(folder: Path) -> None:
    benchmark = importlib.import_module("teachers")
    share, told = benchmark.padding(folder, "mahnob", 2)
    assert 0 <= share < 0.2
    assert told.endswith("on 2 ranks")
    ratio, told = benchmark.cached(folder, 1)
    assert 0.1 < ratio < 2
    assert told.endswith("windows/s")
