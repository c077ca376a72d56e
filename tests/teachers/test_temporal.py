"""The temporal teacher: what it may know, and when."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtkd.config import Lora, Modality, Temporal, Windows
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.signals.windows import n_windows
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.workspace import Unit

MODALITIES: list[Modality] = ["eeg", "emg", "eda"]
PATCH_S = 2.0
BANDS = pytest.mark.parametrize("bands", [[], [(4.0, 12.0), (12.0, 30.0)]], ids=["", "covariances"])
Make = Callable[..., TemporalTeacher]


@pytest.fixture
def make_teacher(
    layouts: Mapping[Modality, Layout], make_batch: Callable[..., Batch], tiny_unit: Unit, smollm2: Unit
) -> Make:
    """A factory of teachers in evaluation mode, with adapters that do something."""

    def make(window: int = 1, hop: int = 1, real: bool = False, seed: int = 0, **changes: Any) -> TemporalTeacher:
        torch.manual_seed(seed)
        section = Temporal(modalities=MODALITIES, patch_s=PATCH_S, lora=Lora(dropout=0.0), **changes)
        windows = Windows(window_s=window * PATCH_S, hop_s=hop * PATCH_S)
        known = {name: layouts[name] for name in MODALITIES}
        model = TemporalTeacher(section, windows, known, 4, smollm2 if real else tiny_unit)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        model.fit_statistics(lambda: [make_batch(MODALITIES, seed=9)], lambda values: values)
        return model.eval()

    return make


def changed(batch: Batch, steps: slice | int, modalities: Iterable[Modality] = MODALITIES) -> Batch:
    """Other samples in some steps."""
    signals = {name: signal.clone() for name, signal in batch.signals.items()}
    for name in modalities:
        signals[name][:, steps] = 3 * torch.randn_like(signals[name][:, steps]) + 1
    return replace(batch, signals=signals)


def part(batch: Batch, trials: slice = slice(None), steps: slice = slice(None)) -> Batch:
    return Batch(
        {name: signal[trials, steps] for name, signal in batch.signals.items()},
        {name: valid[trials, steps] for name, valid in batch.valid.items()},
        batch.steps[trials, steps],
        batch.labels[trials],
        batch.keys[trials],
    )


def moved(ours: TeacherSignal, theirs: TeacherSignal) -> Tensor:
    """By window, the largest difference of anything that is said."""
    parts = [(ours.logits, theirs.logits), (ours.features, theirs.features)]
    parts += [(ours.confidence[..., None], theirs.confidence[..., None])]
    return torch.stack([(a - b).abs().amax((0, 2)) for a, b in parts]).amax(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("real", [False, True], ids=["random", "smollm2"])
@BANDS
@torch.inference_mode()
def test_no_earlier_answer_moves_when_the_future_changes(
    make_teacher: Make, make_batch: Callable[..., Batch], dtype: str, real: bool, bands: Any
) -> None:
    teacher, batch = make_teacher(real=real, dtype=dtype, covariance_bands=bands), make_batch(MODALITIES, n_steps=7)
    before = teacher(batch)
    for first in (1, 3, 6):
        difference = moved(before, teacher(changed(batch, slice(first, None))))
        assert not difference[:first].any()  # not by a bit
        assert difference[first:].all()  # the test can fail: later ones do move


@BANDS
@torch.inference_mode()
def test_later_answers_know_the_past(make_teacher: Make, make_batch: Callable[..., Batch], bands: Any) -> None:
    teacher, batch = make_teacher(covariance_bands=bands), make_batch(MODALITIES, n_steps=5)
    assert moved(teacher(batch), teacher(changed(batch, 0))).all()


@pytest.mark.parametrize("real", [False, True], ids=["random", "smollm2"])
@torch.inference_mode()
def test_answers_do_not_depend_on_how_long_the_trial_goes_on(
    make_teacher: Make, make_batch: Callable[..., Batch], real: bool
) -> None:
    teacher, batch = make_teacher(real=real), make_batch(MODALITIES, n_steps=6)
    whole = teacher(batch)
    short = teacher(part(batch, steps=slice(4)))
    torch.testing.assert_close(short.logits, whole.logits[:, :4], atol=1e-5, rtol=1e-5)


@BANDS
@pytest.mark.parametrize("gone", MODALITIES)
@torch.inference_mode()
def test_a_missing_modality_has_no_influence(
    make_teacher: Make, make_batch: Callable[..., Batch], gone: Modality, bands: Any
) -> None:
    teacher, batch = make_teacher(covariance_bands=bands), make_batch(MODALITIES)
    with_it = teacher(batch)
    batch.valid[gone][:, 1:3] = False
    without = teacher(batch)
    assert moved(with_it, without)[1:].all()
    assert not moved(without, teacher(changed(batch, slice(1, 3), [gone]))).any()


@torch.inference_mode()
def test_a_modality_that_is_never_there_is_as_if_unknown(make_teacher: Make, make_batch: Callable[..., Batch]) -> None:
    """Masked throughout, its kind's embedding does not matter either."""
    teacher, batch = make_teacher(), make_batch(MODALITIES)
    batch.valid["emg"][:] = False
    before = teacher(batch)
    teacher.kinds[MODALITIES.index("emg")] += 5
    assert not moved(before, teacher(batch)).any()


@BANDS
@torch.inference_mode()
def test_padding_has_no_influence(make_teacher: Make, make_batch: Callable[..., Batch], bands: Any) -> None:
    teacher, batch = make_teacher(covariance_bands=bands), make_batch(MODALITIES, n_trials=3, n_steps=6)
    lengths = [6, 2, 4]
    batch = replace(batch, steps=torch.arange(6)[None] < torch.tensor(lengths)[:, None])
    signal = teacher(batch)
    assert signal.mask.sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        alone = teacher(part(batch, slice(row, row + 1), slice(length)))
        torch.testing.assert_close(signal.logits[row, :length], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(signal.confidence[row, :length], alone.confidence[0], atol=1e-5, rtol=1e-5)
    padded = {name: torch.where(batch.steps[..., None, None], x, 7.0) for name, x in batch.signals.items()}
    other = teacher(replace(batch, signals=padded))
    assert torch.equal(other.logits[other.mask], signal.logits[signal.mask])


@torch.inference_mode()
def test_a_window_in_whose_last_patch_nothing_is_heard_is_masked(
    make_teacher: Make, make_batch: Callable[..., Batch]
) -> None:
    teacher, batch = make_teacher(window=2, hop=1), make_batch(MODALITIES, n_steps=6)
    for name in MODALITIES:
        batch.valid[name][0, 3] = False
    signal = teacher(batch)
    expected = torch.ones(2, 5, dtype=torch.bool)
    expected[0, 2] = False  # windows are patches 0-1, 1-2, 2-3, 3-4, 4-5
    assert torch.equal(signal.mask, expected)
    assert torch.isfinite(signal.logits).all()


@pytest.fixture(scope="module")
def teacher_once(
    layouts: Mapping[Modality, Layout], make_batch: Callable[..., Batch], tiny_unit: Unit
) -> TemporalTeacher:
    """One teacher for many examples."""
    section = Temporal(modalities=MODALITIES, patch_s=PATCH_S)
    known = {name: layouts[name] for name in MODALITIES}
    model = TemporalTeacher(section, Windows(window_s=PATCH_S, hop_s=PATCH_S), known, 4, tiny_unit)
    model.fit_statistics(lambda: [make_batch(MODALITIES, seed=9)], lambda values: values)
    return model.eval()


@settings(max_examples=40)
@given(window=st.integers(1, 4), hop=st.integers(1, 4), n_steps=st.integers(1, 9))
@torch.inference_mode()
def test_a_windows_answer_is_that_at_its_last_patch(
    teacher_once: TemporalTeacher, make_batch: Callable[..., Batch], window: int, hop: int, n_steps: int
) -> None:
    batch = make_batch(MODALITIES, n_steps=n_steps)
    teacher_once.window_patches, teacher_once.hop_patches = 1, 1
    steps = teacher_once(batch)
    teacher_once.window_patches, teacher_once.hop_patches = window, hop
    answers = teacher_once(batch)
    last = [start + window - 1 for start in range(0, n_steps - window + 1, hop)]
    assert answers.logits.shape[1] == len(last) == n_windows(n_steps * PATCH_S, window * PATCH_S, hop * PATCH_S)
    torch.testing.assert_close(answers.logits, steps.logits[:, last])
    assert torch.equal(answers.mask, steps.mask[:, last])


@given(
    duration_s=st.floats(0.1, 300),
    patch_s=st.sampled_from([0.5, 1.0, 2.0, 6.0]),
    window=st.integers(1, 5),
    data=st.data(),
)
def test_patches_and_windows_of_a_trial_agree_in_number(
    duration_s: float, patch_s: float, window: int, data: st.DataObject
) -> None:
    """The cache writes as many answers as the student's cut of a trial has windows."""
    hop = data.draw(st.integers(1, window))
    n_patches = n_windows(duration_s, patch_s, patch_s)
    answers = len(torch.arange(window - 1, n_patches, hop)) if n_patches >= window else 0
    assert answers == n_windows(duration_s, window * patch_s, hop * patch_s)


@pytest.mark.parametrize(("window", "hop"), [(1, 1), (2, 1), (3, 2)])
def test_windows_come_from_the_study(
    make_teacher: Make, make_batch: Callable[..., Batch], window: int, hop: int
) -> None:
    with torch.inference_mode():
        steps = make_teacher()(make_batch(MODALITIES, n_steps=7)).logits
        answers = make_teacher(window=window, hop=hop)(make_batch(MODALITIES, n_steps=7)).logits
    torch.testing.assert_close(answers, steps[:, window - 1 :: hop])


def test_only_adapters_embeddings_and_heads_learn(make_teacher: Make, make_batch: Callable[..., Batch]) -> None:
    teacher, batch = make_teacher(real=True).train(), make_batch(MODALITIES)
    own = ("encoders.", "kinds", "norm.", "heads.")
    trained = {name for name, parameter in teacher.named_parameters() if parameter.requires_grad}
    assert trained == {n for n, _ in teacher.named_parameters() if n.startswith(own) or "lora_" in n}
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=1e-2, weight_decay=0.1)
    signal = teacher(batch)
    (signal.logits.square().sum() + signal.confidence.sum()).backward()
    optimizer.step()
    after = teacher.state_dict()
    moved_now = {name for name in before if not torch.equal(before[name], after[name])}
    buffers = {name for name, _ in teacher.named_buffers()}
    assert moved_now == trained - buffers


def test_a_bfloat16_backbone_leaves_the_rest_in_float32(make_teacher: Make, make_batch: Callable[..., Batch]) -> None:
    teacher = make_teacher(dtype="bfloat16")
    assert {p.dtype for p in teacher.parameters() if p.requires_grad} == {torch.float32}
    with torch.inference_mode():
        signal = teacher(make_batch(MODALITIES))
    assert (signal.logits.dtype, signal.features.dtype, signal.confidence.dtype) == (torch.float32,) * 3


def test_tokens_have_variance_one(make_teacher: Make, make_batch: Callable[..., Batch]) -> None:
    teacher = make_teacher(real=True)
    seen: list[Tensor] = []
    teacher.backbone.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.inference_mode():
        teacher(make_batch(MODALITIES))
    assert seen[0].square().mean().sqrt().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("real", [False, True], ids=["random", "smollm2"])
@pytest.mark.parametrize("lengths", [(6, 2, 4), (5, 5, 5)])
@torch.inference_mode()
def test_no_trial_sees_another_in_its_row(
    make_teacher: Make, make_batch: Callable[..., Batch], real: bool, lengths: tuple[int, ...]
) -> None:
    teacher, batch = make_teacher(real=real), make_batch(MODALITIES, n_trials=3, n_steps=max(lengths))
    batch = replace(batch, steps=torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None])
    before = teacher(batch)
    for changed_one in range(3):
        signals = {name: signal.clone() for name, signal in batch.signals.items()}
        for signal in signals.values():
            signal[changed_one] = 3 * torch.randn_like(signal[changed_one]) + 1
        after = teacher(replace(batch, signals=signals))
        moved_now = (after.logits - before.logits).abs().amax(-1)
        for row in range(3):
            assert moved_now[row, : lengths[row]].any() == (row == changed_one)  # not by a bit


@torch.inference_mode()
def test_without_a_causal_mask_earlier_answers_know_the_future(
    make_teacher: Make, make_batch: Callable[..., Batch]
) -> None:
    teacher, batch = make_teacher(causal=False), make_batch(MODALITIES, n_steps=5)
    assert moved(teacher(batch), teacher(changed(batch, 4))).all()


def test_activation_checkpointing_changes_no_gradient(make_teacher: Make, make_batch: Callable[..., Batch]) -> None:
    found = []
    for checkpointing in (False, True):
        teacher = make_teacher(activation_checkpointing=checkpointing, dropout=0.0).train()
        teacher(make_batch(MODALITIES, n_trials=3)).logits.square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in teacher.parameters() if p.grad is not None]))
        assert teacher.backbone.model.base_model.model.is_gradient_checkpointing == checkpointing
    torch.testing.assert_close(*found)


def test_a_batch_without_a_token_has_gradients_for_all_that_learns(
    make_teacher: Make, make_batch: Callable[..., Batch]
) -> None:
    """What only fills a rank's share: the others wait for its gradients."""
    teacher, batch = make_teacher().train(), make_batch(MODALITIES)
    empty = replace(batch, steps=torch.zeros_like(batch.steps))
    signal = teacher(empty)
    assert not signal.mask.any()
    (signal.logits.sum() + signal.confidence.sum()).backward()
    assert all(p.grad is not None for p in teacher.parameters() if p.requires_grad)
