"""What a trial takes, held against what a device computes at once and what a backbone reads."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from mtkd.cache.build import Teacher, load_teacher
from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.shards.build import open_shards
from mtkd.teachers.temporal import train
from mtkd.training.fold import fold_data, folds_of
from mtkd.training.runtime import Runtime


@pytest.fixture
def study(pipeline: Any, tmp_path: Path) -> Study:
    """The finished small study, in a workspace of its own."""
    return pipeline.copy(tmp_path / "workspace")


def changed(study: Study, **keys: Any) -> Study:
    return study.model_copy(update={"temporal": study.temporal.model_copy(update=keys)})


def loaders(study: Study) -> tuple[Any, Any]:
    """Those of the first fold."""
    fold = folds_of(study)[0]
    model = train.build_model(study, open_shards(study)[1], fold)
    data = fold_data(study, fold, study.temporal.modalities, train.patches(study))
    return train.loaders(study, data, model, Runtime(study.temporal.optim))


def test_a_trial_of_more_tokens_than_are_computed_at_once(study: Study) -> None:
    assert all(len(loader) for loader in loaders(changed(study, max_tokens=50)))
    told = r"^temporal\.patch_s = 6: the trial s01_t01 has 50 tokens, and temporal\.max_tokens is 49$"
    with pytest.raises(MtkdError, match=told):
        loaders(changed(study, max_tokens=49))


@pytest.mark.parametrize("known", [49, 50])
def test_a_trial_of_more_positions_than_the_backbone_knows(study: Study, tmp_path: Path, known: int) -> None:
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 9}
    config = transformers.LlamaConfig(**shape, max_position_embeddings=known)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    study = changed(study, backbone=str(tmp_path / "llama"), layers=1)
    if known == 50:
        assert all(len(loader) for loader in loaders(study))
        return
    told = r"^temporal\.patch_s = 6: the trial s01_t01 has 50 positions, and .* knows 49$"
    with pytest.raises(MtkdError, match=told):
        loaders(study)


@pytest.mark.parametrize("name", ["temporal", "spatial"])
def test_a_cache_asks_for_no_more_at_once_than_a_teacher_takes(pipeline: Any, name: Any) -> None:
    shards = open_shards(pipeline.study)[1]
    whole = load_teacher(pipeline.study, shards, folds_of(pipeline.study)[0], name)
    samples = shards.index.samples
    sizes = {sample.key: whole._size(sample) for sample in samples}
    assert set(sizes.values()) == ({50} if name == "temporal" else {1})
    largest = max(sizes.values())
    for most in range(largest, 4 * largest, max(1, largest // 3)):
        batches = list(Teacher(whole.model, whole.cutter, most).batches(samples))
        assert [sample.key for batch in batches for sample in batch] == [sample.key for sample in samples]
        held = [sum(sizes[sample.key] for sample in batch) for batch in batches]
        assert max(held) <= most
        firsts = [sizes[batch[0].key] for batch in batches[1:]]
        assert all(n + first > most for n, first in zip(held, firsts, strict=False))  # as many as there is room for


def test_a_trial_larger_than_that_is_asked_for_alone(pipeline: Any) -> None:
    shards = open_shards(pipeline.study)[1]
    whole = load_teacher(pipeline.study, shards, folds_of(pipeline.study)[0], "temporal")
    batches = list(Teacher(whole.model, whole.cutter, 1).batches(shards.index.samples))
    assert [len(batch) for batch in batches] == [1] * len(shards.index.samples)


def test_padding_counts_where_trials_are_padded(study: Study, tmp_path: Path) -> None:
    """To a decoder with attention of its own."""
    config = transformers.BloomConfig(hidden_size=32, n_layer=1, n_head=4, vocab_size=61)
    transformers.BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    assert not any(loader.sampler.padded for loader in loaders(study))
    padded = changed(study, backbone=str(tmp_path / "bloom"), layers=None)
    assert all(loader.sampler.padded for loader in loaders(padded))
