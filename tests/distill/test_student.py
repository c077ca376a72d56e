"""The student: any subset of its modalities, window by window."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Distill, Modality
from mtkd.distill.student import Projection, Student
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.study import read_study

MODALITIES: list[Modality] = ["emg", "eda", "ppg"]
SUBSETS = [subset for size in range(1, 4) for subset in combinations(MODALITIES, size)]


def build(layouts: Mapping[Modality, Layout], batch: Batch, **changes: Any) -> Student:
    torch.manual_seed(0)
    settings = Distill(**{"modalities": MODALITIES, "width": 8} | changes)
    known = {name: layouts[name] for name in MODALITIES}
    model = Student(settings, known, 2.0, 4, {"temporal": 6, "spatial": 5})
    torch.nn.init.normal_(model.missing)
    model.fit_statistics(lambda: [batch], lambda values: values)
    return model.eval()


@pytest.fixture(scope="module")
def student(layouts: Mapping[Modality, Layout], make_batch: Callable[..., Batch]) -> Student:
    return build(layouts, make_batch(MODALITIES, seed=9))


def windows(batch: Batch, steps: slice) -> Batch:
    return replace(
        batch,
        signals={name: signal[:, steps] for name, signal in batch.signals.items()},
        valid={name: valid[:, steps] for name, valid in batch.valid.items()},
        steps=batch.steps[:, steps],
    )


def without(batch: Batch, gone: Iterable[Modality]) -> Batch:
    valid = {name: torch.zeros_like(mask) if name in set(gone) else mask for name, mask in batch.valid.items()}
    return replace(batch, valid=valid)


@given(
    cuts=st.sets(st.integers(1, 7)),
    seed=st.integers(0, 100),
    gone=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 2))),
)
@torch.inference_mode()
def test_a_trial_at_once_and_in_any_pieces_give_the_same_answers(
    student: Student, make_batch: Callable[..., Batch], cuts: set[int], seed: int, gone: set[tuple[int, int]]
) -> None:
    batch = make_batch(MODALITIES, n_steps=8, seed=seed)
    for step, modality in gone:
        batch.valid[MODALITIES[modality]][:, step] = False
    whole, state, pieces = student(batch), None, []
    edges = [0, *sorted(cuts), 8]
    for start, stop in pairwise(edges):
        signal, state = student.step(windows(batch, slice(start, stop)), state)
        pieces.append(signal)
    for part in ("logits", "features", "confidence", "mask"):
        joined = torch.cat([getattr(piece, part) for piece in pieces], dim=1)
        torch.testing.assert_close(joined, getattr(whole, part), atol=1e-5, rtol=1e-5)


@given(first=st.integers(1, 5), seed=st.integers(0, 100))
@torch.inference_mode()
def test_no_earlier_answer_moves_when_the_future_changes(
    student: Student, make_batch: Callable[..., Batch], first: int, seed: int
) -> None:
    batch, other = make_batch(MODALITIES, n_steps=6, seed=seed), make_batch(MODALITIES, n_steps=6, seed=seed + 1000)
    signals = {name: signal.clone() for name, signal in batch.signals.items()}
    for name in MODALITIES:
        signals[name][:, first:] = 3 * other.signals[name][:, first:]
    before, after = student(batch), student(replace(batch, signals=signals))
    for part in ("logits", "features", "confidence"):
        assert torch.equal(getattr(before, part)[:, :first], getattr(after, part)[:, :first])
    assert not torch.equal(before.logits[:, first:], after.logits[:, first:])


@pytest.mark.parametrize("gone", MODALITIES)
@torch.inference_mode()
def test_a_masked_modality_has_no_influence(student: Student, make_batch: Callable[..., Batch], gone: Modality) -> None:
    batch = without(make_batch(MODALITIES), [gone])
    changed = replace(batch, signals=batch.signals | {gone: 1e3 * torch.randn_like(batch.signals[gone])})
    before, after = student(batch), student(changed)
    for part in ("logits", "features", "confidence", "mask"):
        assert torch.equal(getattr(before, part), getattr(after, part))
    with_it = student(make_batch(MODALITIES))
    assert not torch.equal(with_it.logits, before.logits)


@pytest.mark.parametrize("kept", SUBSETS, ids="-".join)
@torch.inference_mode()
def test_every_subset_of_modalities_gives_finite_answers_of_its_own(
    student: Student, make_batch: Callable[..., Batch], kept: tuple[Modality, ...]
) -> None:
    batch = make_batch(MODALITIES)
    signal = student(without(batch, set(MODALITIES) - set(kept)))
    assert signal.mask.all()
    assert torch.isfinite(signal.logits).all()
    assert ((signal.confidence > 0) & (signal.confidence < 1)).all()
    assert (kept == tuple(MODALITIES)) == torch.equal(signal.logits, student(batch).logits)


@torch.inference_mode()
def test_a_window_in_which_nothing_is_heard_is_masked(student: Student, make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(MODALITIES)
    for name in MODALITIES:
        batch.valid[name][0, 2] = False
    signal = student(batch)
    assert signal.mask.logical_not().nonzero().tolist() == [[0, 2]]
    assert torch.isfinite(signal.logits).all()


@torch.inference_mode()
def test_padding_has_no_influence(student: Student, make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(MODALITIES, n_steps=6)
    batch.steps[1, 3:] = False
    signal, alone = student(batch), student(windows(batch, slice(3)))
    assert signal.mask.sum(1).tolist() == [6, 3]
    torch.testing.assert_close(signal.logits[:, :3], alone.logits, atol=1e-5, rtol=1e-5)


@given(
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=4), seed=st.integers(0, 99)
)
def test_modality_dropout_takes_whole_modalities_but_never_the_last(
    student: Student, present: list[list[bool]], seed: int
) -> None:
    torch.manual_seed(seed)
    there = torch.tensor(present)[None].expand(8, -1, -1)  # eight trials of some steps
    student.train()
    student.modality_dropout = 0.8
    left = student._drop(there)
    student.eval()
    assert not (left & ~there).any()
    assert torch.equal(left.any(-1), there.any(-1))
    assert torch.equal(student._drop(there), there)


def test_what_modality_dropout_takes_has_no_influence(
    layouts: Mapping[Modality, Layout], make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(MODALITIES, n_trials=12)
    student = build(layouts, batch, dropout=0.0, modality_dropout=0.5).train()

    def answer(signals: dict[Modality, torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(3)
        return student(replace(batch, signals=signals)).logits

    torch.manual_seed(3)
    left = student._drop(torch.ones(12, 4, 3, dtype=torch.bool))[:, 0]
    assert 0 < left.sum() < left.numel()
    for index, name in enumerate(MODALITIES):
        moved = answer(batch.signals | {name: 5 * batch.signals[name].flip(0)}) - answer(batch.signals)
        assert torch.equal(moved.abs().amax((1, 2)) > 0, left[:, index])


def test_modality_dropout_happens_as_often_as_told(layouts: Mapping[Modality, Layout], student: Student) -> None:
    torch.manual_seed(0)
    there = torch.ones(20_000, 1, 3, dtype=torch.bool)
    student.train()
    student.modality_dropout = 0.3
    share = student._drop(there).float().mean().item()
    student.eval()
    # all three gone has probability 0.027 and is undone
    assert share == pytest.approx(0.7 + 0.3**3, abs=0.01)


def test_projections_exist_for_its_teachers_alone(layouts: Mapping[Modality, Layout]) -> None:
    settings = Distill(modalities=MODALITIES, width=8)
    known = {name: layouts[name] for name in MODALITIES}
    assert not Student(settings, known, 2.0, 4, {}).projections
    made = Student(settings, known, 2.0, 4, {"spatial": 7}).projections
    assert {name: [layer.out_features for layer in each.spaces] for name, each in made.items()} == {"spatial": [7]}


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_a_trial_is_projected_into_the_space_of_its_own_teacher(asked: list[int]) -> None:
    made, features = Projection(6, 4, 3), torch.randn(len(asked), 2, 6)
    expected = torch.stack([made.spaces[number](own) for number, own in zip(asked, features, strict=True)])
    torch.testing.assert_close(made(features, asked), expected)


def test_the_shipped_students_are_small(repo: Any) -> None:
    """As they are, and in all widths that are searched."""
    channels = {"emg": 2, "eda": 1, "resp": 1, "ppg": 1, "ecg": 1}
    for path in sorted((repo / "configs/study").glob("*.yaml")):
        study = read_study(path)
        known = {
            name: Layout(
                ch_names=[f"{name}{i}" for i in range(channels[name])], sfreq=study.signals.modalities[name].sfreq
            )
            for name in study.distill.modalities
        }
        searched = study.sweep.search["width"].choice if "width" in study.sweep.search else []
        for width in {study.distill.width, *map(int, searched)}:
            settings = study.distill.model_copy(update={"width": width})
            student = Student(settings, known, study.windows.window_s, study.n_classes, {"temporal": 576})
            assert 30_000 < student.n_parameters < 1_000_000, (path, width)
