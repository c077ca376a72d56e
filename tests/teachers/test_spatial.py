"""The spatial teacher."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtkd.config import Modality, Spatial
from mtkd.errors import MtkdError
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.teachers.spatial.model import SpatialTeacher

CONVOLUTIONS = {
    "DenseGraphConv": {},
    "DenseGCNConv": {"improved": True},
    "DenseSAGEConv": {},
    "DenseGINConv": {"train_eps": True},
    "GraphConv": {},
    "GCNConv": {},
    "ChebConv": {"K": 3},
    "TAGConv": {"K": 2},
    "SGConv": {"K": 2},
    "ARMAConv": {"num_layers": 2},  # of one it has weights that it never uses
    "LEConv": {},
    "GATConv": {"heads": 2},
    "GATv2Conv": {"heads": 2, "concat": False},
    "TransformerConv": {},
    "GINEConv": {},
}
N_CHANS = 4
some_conv = pytest.mark.parametrize("conv", CONVOLUTIONS)


@pytest.fixture
def make_teacher(layouts: Mapping[Modality, Layout], make_batch: Callable[..., Batch]) -> Callable[..., SpatialTeacher]:
    def make(seed: int = 0, layout: Layout = layouts["eeg"], **changes: object) -> SpatialTeacher:
        torch.manual_seed(seed)
        if "conv" in changes:
            changes = {"conv_options": CONVOLUTIONS[str(changes["conv"])]} | changes
        given = Spatial(width=8, bands=[(4.0, 8.0), (8.0, 13.0)], n_filters=3, **changes)
        model = SpatialTeacher(given, layout, 4)
        torch.nn.init.normal_(model.learned, std=0.3)
        if layout == layouts["eeg"]:
            model.fit_statistics(lambda: [make_batch(["eeg"], seed=9)], lambda values: values)
        return model.eval()

    return make


def same(ours: TeacherSignal, theirs: TeacherSignal, where: Tensor | slice = slice(None)) -> None:
    for part in ("logits", "features", "confidence"):
        assert torch.equal(getattr(ours, part)[where], getattr(theirs, part)[where]), part


@some_conv
@pytest.mark.parametrize("features", ["entropy", "learned", "covariance"])
def test_every_convolution_answers_and_all_of_it_learns(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch], conv: str, features: str
) -> None:
    teacher, batch = make_teacher(conv=conv, features=features), make_batch(["eeg"], n_trials=3, n_steps=5)
    batch.valid["eeg"][0, 0, 1] = batch.valid["eeg"][1, :, 2:] = False
    torch.nn.init.ones_(teacher.heads.confidence[-1].weight)  # it starts at zero, so nothing behind it learns at once
    signal = teacher(batch)
    assert signal.logits.shape == (3, 5, 4)
    assert signal.features.shape == (3, 5, 16)
    assert ((signal.confidence > 0) & (signal.confidence < 1)).all()
    assert signal.mask.all()
    (signal.logits.square().sum() + signal.confidence.sum()).backward()
    for name, parameter in teacher.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@some_conv
def test_one_electrode_or_none_is_a_graph_too(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch], conv: str
) -> None:
    teacher, batch = make_teacher(conv=conv), make_batch(["eeg"])
    batch.valid["eeg"][:] = False
    nothing = teacher(batch)
    assert nothing.logits.isfinite().all()
    assert not nothing.mask.any()
    batch.valid["eeg"][0, 0, 1] = True
    signal = teacher(batch)
    assert signal.mask.nonzero().tolist() == [[0, 0]]
    assert (signal.logits - nothing.logits)[0, 0].abs().max() > 0
    torch.testing.assert_close(signal.logits[1], nothing.logits[1])


@some_conv
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, N_CHANS - 1), min_size=1, max_size=N_CHANS - 1), st.integers(0, 99))
def test_what_other_montages_hold_does_not_matter(
    make_teacher: Callable[..., SpatialTeacher],
    make_batch: Callable[..., Batch],
    layouts: Mapping[Modality, Layout],
    conv: str,
    there: set[int],
    seed: int,
) -> None:
    """A trial of some electrodes is answered alike by a teacher that knows others, whatever stands in their place."""
    own, batch = sorted(there), make_batch(["eeg"], seed=seed)
    teacher = make_teacher(seed, conv=conv)
    layout = Layout(ch_names=[layouts["eeg"].ch_names[index] for index in own], sfreq=128)
    alone = make_teacher(seed, layout=layout, conv=conv)
    alone.load_state_dict(restricted(teacher, own))
    small = replace(
        batch, signals={"eeg": batch.signals["eeg"][:, :, own]}, valid={"eeg": batch.valid["eeg"][:, :, own]}
    )
    batch.valid["eeg"][:, :, [index for index in range(N_CHANS) if index not in own]] = False
    torch.testing.assert_close(teacher(batch).logits, alone(small).logits, rtol=1e-4, atol=1e-5)


def restricted(teacher: SpatialTeacher, own: list[int]) -> dict[str, Tensor]:
    """A teacher's weights with those of some electrodes alone, in that order."""
    state = teacher.state_dict()
    for name in ("learned", "near"):
        state[name] = state[name][own][:, own]
    for name in ("scale.mean", "scale.std"):
        state[name] = state[name][own]
    state["readout.2.weight"] = state["readout.2.weight"].unflatten(1, (N_CHANS, -1))[:, own].flatten(1)
    return state


def test_dense_and_sparse_graphs_are_the_same(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch]
) -> None:
    dense, sparse, batch = make_teacher(conv="DenseGraphConv"), make_teacher(1, conv="GraphConv"), make_batch(["eeg"])
    sparse.load_state_dict(dense.state_dict())
    batch.valid["eeg"][0, 1, 2] = batch.valid["eeg"][1, :, 0] = batch.valid["eeg"][1, 3] = False
    torch.testing.assert_close(sparse(batch).logits, dense(batch).logits)


def test_an_electrode_off_the_montage_is_refused() -> None:
    with pytest.raises(MtkdError, match="electrode 'A2-A1'"):
        SpatialTeacher(Spatial(), Layout(ch_names=["Cz", "A2-A1"], sfreq=128), 4)


@pytest.mark.parametrize("band", [(200.0, 300.0), (50.0, 65.0), (8.0, 8.0), (13.0, 8.0), (-1.0, 4.0)])
def test_a_band_that_the_signals_do_not_hold_is_refused(
    layouts: Mapping[Modality, Layout], band: tuple[float, float]
) -> None:
    with pytest.raises(MtkdError, match=rf"spatial\.bands: {band[0]:g} to {band[1]:g} Hz is no band of EEG at 128 Hz"):
        SpatialTeacher(Spatial(bands=[(4.0, 8.0), band]), layouts["eeg"], 4)


def test_the_adjacency_stays_symmetric_and_not_negative_whatever_is_learned(
    make_teacher: Callable[..., SpatialTeacher],
) -> None:
    for seed in range(5):
        teacher = make_teacher(seed)
        torch.nn.init.normal_(teacher.learned, std=2.0)
        adjacency = teacher.adjacency
        assert torch.equal(adjacency, adjacency.T)
        assert (adjacency >= 0).all()
        assert not adjacency.diagonal().any()


def test_before_training_it_is_the_nearness_of_the_montage(layouts: Mapping[Modality, Layout]) -> None:
    teacher = SpatialTeacher(Spatial(), layouts["eeg"], 4)
    assert torch.equal(teacher.adjacency, teacher.near)


def test_without_a_learned_part_it_stays_that(layouts: Mapping[Modality, Layout]) -> None:
    teacher = SpatialTeacher(Spatial(learned_adjacency=False), layouts["eeg"], 4)
    assert not teacher.learned.requires_grad


@some_conv
@pytest.mark.parametrize("features", ["entropy", "learned", "covariance"])
def test_an_invalid_electrodes_samples_have_no_influence(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch], conv: str, features: str
) -> None:
    teacher, batch = make_teacher(conv=conv, features=features), make_batch(["eeg"])
    batch.valid["eeg"][0, 1, 2] = False
    changed = {"eeg": batch.signals["eeg"].clone()}
    changed["eeg"][0, 1, 2] = 1e6 * torch.randn_like(changed["eeg"][0, 1, 2])
    same(teacher(batch), teacher(replace(batch, signals=changed)))
    batch.valid["eeg"][0, 1, 2] = True
    moved = teacher(replace(batch, signals=changed)).logits - teacher(batch).logits
    assert moved[0, 1].abs().min() > 0  # the test can fail: a valid one does
    assert not moved[1].any()


def test_a_window_without_eeg_is_masked(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(["eeg"])
    batch.valid["eeg"][0, 1] = False
    batch.steps[1, 3] = False
    expected = torch.ones_like(batch.steps)
    expected[0, 1] = expected[1, 3] = False
    assert torch.equal(make_teacher()(batch).mask, expected)


def test_each_window_is_answered_by_itself(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch]
) -> None:
    teacher, batch = make_teacher(), make_batch(["eeg"], n_steps=6)
    changed = {"eeg": batch.signals["eeg"].clone()}
    changed["eeg"][:, 3] *= -2
    changed["eeg"][:, 3, 0] += torch.linspace(0, 5, changed["eeg"].shape[-1])
    moved = (teacher(replace(batch, signals=changed)).logits - teacher(batch).logits).abs().amax((0, 2))
    assert moved.argmax() == 3
    assert moved[[0, 1, 2, 4, 5]].max() == 0


def test_statistics_come_from_valid_windows_alone(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch]
) -> None:
    teacher, batch = make_teacher(), make_batch(["eeg"], n_trials=3)
    part = replace(
        batch,
        signals={"eeg": batch.signals["eeg"][:2]},
        valid={"eeg": batch.valid["eeg"][:2]},
        steps=batch.steps[:2],
        labels=batch.labels[:2],
        keys=batch.keys[:2],
    )
    teacher.fit_statistics(lambda: [part], lambda values: values)
    expected = teacher.scale.mean.clone(), teacher.scale.std.clone()
    batch.steps[2] = False  # a rank's filler
    batch.signals["eeg"][2] = 1e9
    teacher.fit_statistics(lambda: [batch], lambda values: values)
    assert torch.equal(teacher.scale.mean, expected[0])
    assert torch.equal(teacher.scale.std, expected[1])
    nodes = teacher.nodes(part)
    torch.testing.assert_close(nodes.mean((0, 1)), torch.zeros(N_CHANS, 2), atol=1e-5, rtol=0)


def test_electrodes_in_another_order_give_the_same_answers(
    make_teacher: Callable[..., SpatialTeacher], make_batch: Callable[..., Batch], layouts: Mapping[Modality, Layout]
) -> None:
    """True once what belongs to an electrode (learned edges, scale, readout) moves with it."""
    teacher, batch, order = make_teacher(), make_batch(["eeg"]), [2, 0, 3, 1]
    layout = Layout(ch_names=[layouts["eeg"].ch_names[index] for index in order], sfreq=layouts["eeg"].sfreq)
    other = make_teacher(layout=layout)
    state = restricted(teacher, order)
    state["near"] = other.near
    other.load_state_dict(state)
    permuted = replace(
        batch,
        signals={"eeg": batch.signals["eeg"][:, :, order]},
        valid={"eeg": batch.valid["eeg"][:, :, order]},
    )
    torch.testing.assert_close(other(permuted).logits, teacher(batch).logits)
