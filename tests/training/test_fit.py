"""The training loop."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtkd.config import Optim
from mtkd.errors import MtkdError
from mtkd.shards.batch import Cutter
from mtkd.shards.loader import Loader
from mtkd.training.fit import History, _Meter, _schedule, _Training, fit
from mtkd.training.objective import Supervised, Term
from mtkd.training.runtime import Runtime

Make = Callable[..., Cutter]
OPTIM = Optim(epochs=12, batch_size=4, lr=0.1, weight_decay=0.0, patience=12)


objective = Supervised(torch.ones(2), 1.0, 0.5)


def loader(cutter: Cutter, subjects: str, batch_size: int = 4, shuffle: bool = False) -> Loader:
    keys = [key for key in cutter.shards.samples if key[:2] in subjects.split()]
    return Loader(cutter, keys, batch_size, shuffle=shuffle)


def pieces(cutter: Cutter, most: int | None) -> Loader:
    """All trials of two subjects in one global batch, computed so many windows at a time."""
    keys = [key for key in cutter.shards.samples if key[:2] in ("s1", "s2")]
    sizes = [cutter.n_steps(cutter.shards.samples[key]) for key in keys]
    return Loader(cutter, keys, len(keys), sizes=sizes, most=most)


def gradient(model: nn.Module, loader: Loader) -> torch.Tensor:
    model = copy.deepcopy(model)
    (share,) = loader.shares()
    training = _Training(model, objective, loader, loader, OPTIM, Runtime(OPTIM), None)
    for _, _, loss in training._losses(share, training.meter):
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("most", [8, 9, 20, 1000])
def test_a_batch_in_pieces_teaches_what_it_teaches_as_a_whole(level: nn.Module, make_cutter: Make, most: int) -> None:
    cutter = make_cutter(unrated=("s1_t00", "s2_t03"))
    (share,) = pieces(cutter, most).shares()
    assert len(share) > 1 or most == 1000
    assert all(int(batch.steps.sum()) <= most for batch in share)
    whole = gradient(level, pieces(cutter, None))
    torch.testing.assert_close(gradient(level, pieces(cutter, most)), whole)


def train(model: nn.Module, cutter: Cutter, optim: Optim = OPTIM, watch: Callable | None = None) -> History:
    own = loader(cutter, "s1 s2", optim.batch_size, shuffle=True), loader(cutter, "s3", optim.batch_size)
    return fit(model, objective, *own, optim, Runtime(optim), watch)


def class_loss(model: nn.Module, cutter: Cutter, subjects: str) -> float:
    """Mean over all windows, each trial read by itself."""
    values: list[float] = []
    with torch.no_grad():
        for key in loader(cutter, subjects).keys:
            batch = cutter.batch([key])
            term = objective(model.eval(), batch)["class"]
            values += term.value[term.mask].tolist()
    return sum(values) / len(values)


def test_it_learns_what_can_be_learned(level: nn.Module, make_cutter: Make) -> None:
    cutter = make_cutter()
    before = class_loss(level, cutter, "s3")
    history = train(level, cutter)
    assert class_loss(level, cutter, "s3") < 0.15 < before
    batch = cutter.batch(loader(cutter, "s3").keys)
    right = level(batch).logits.argmax(-1) == batch.labels[:, None]
    assert right[batch.steps].float().mean() > 0.95
    assert history.epochs[-1]["train/class"] < history.epochs[0]["train/class"]
    assert history.n_parameters == sum(parameter.numel() for parameter in level.parameters())


def test_the_best_epochs_weights_are_kept(level: nn.Module, make_cutter: Make) -> None:
    """Validation says the opposite of training, so that it is best before much was learned."""
    cutter = make_cutter(flip="s3")
    history = train(level, cutter)
    losses = [means["val/class"] for means in history.epochs]
    assert history.best_epoch == 1 + losses.index(min(losses)) < len(losses)
    assert history.best["val/class"] == min(losses)
    assert class_loss(level, cutter, "s3") == pytest.approx(min(losses), rel=1e-5)
    assert losses[-1] > 2 * min(losses)  # the last ones would have been noticed


def test_the_last_epochs_weights_are_kept_where_that_is_wished(level: nn.Module, make_cutter: Make) -> None:
    cutter = make_cutter(flip="s3")
    history = train(level, cutter, OPTIM.model_copy(update={"keep": "last", "patience": 1}))
    assert history.best_epoch == len(history.epochs) == OPTIM.epochs
    assert class_loss(level, cutter, "s3") == pytest.approx(history.epochs[-1]["val/class"], rel=1e-5)


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_when_patience_is_over(level: nn.Module, make_cutter: Make, patience: int) -> None:
    history = train(level, make_cutter(flip="s3"), OPTIM.model_copy(update={"patience": patience}))
    assert len(history.epochs) == history.best_epoch + patience < OPTIM.epochs


def test_measurements_are_means_over_windows_not_over_batches(level: nn.Module, make_cutter: Make) -> None:
    """Seven trials of 2 to 8 windows in batches of four: the last batch is smaller, its windows are not worth more."""
    cutter = make_cutter()
    history = train(level, cutter, OPTIM.model_copy(update={"lr": 1e-12, "epochs": 1}))
    for side, subjects in (("train", "s1 s2"), ("val", "s3")):
        assert history.best[f"{side}/class"] == pytest.approx(class_loss(level, cutter, subjects), rel=1e-5)


def test_the_same_seed_gives_the_same_weights(level: nn.Module, make_cutter: Make) -> None:
    other, cutter = copy.deepcopy(level), make_cutter()
    assert train(level, cutter).epochs == train(other, cutter).epochs
    assert all(torch.equal(a, b) for a, b in zip(level.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_size_of_the_last_batch_does_not_change_what_a_batch_teaches(level: nn.Module, make_cutter: Make) -> None:
    """One batch of everything gives the gradient of the mean over all windows."""
    cutter = make_cutter()
    plain = copy.deepcopy(level)
    batch = cutter.batch(loader(cutter, "s1 s2").keys)
    terms = objective(plain, batch)
    sum(term.weight * term.value[term.mask].mean() for term in terms.values()).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()])
    meter = _Meter(Runtime(OPTIM))
    meter.loss(objective(level, batch), meter.count([objective.masks(level, batch)])).backward()
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in level.parameters()]), expected)


@given(st.lists(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=6), min_size=1, max_size=5))
def test_a_meter_weighs_what_was_counted(batches: list[list[tuple[float, bool]]]) -> None:
    meter = _Meter(Runtime(OPTIM))
    for windows in batches:
        value = torch.tensor([[value for value, _ in windows]])
        mask = torch.tensor([[counted for _, counted in windows]])
        own = [value for value, counted in windows if counted]
        terms = {"a": Term(value, mask, 2.0), "b": Term(value, torch.zeros_like(mask), 1.0)}
        loss = meter.loss(terms, meter.count([{name: term.mask for name, term in terms.items()}]))
        assert loss.item() == pytest.approx(2 * sum(own) / max(1, len(own)), abs=1e-5)
    counted = [value for windows in batches for value, counted in windows if counted]
    means = meter.means()
    assert "b" not in means  # what never counted has no mean
    if counted:
        assert means["a"] == pytest.approx(sum(counted) / len(counted), abs=1e-5)


def test_an_observer_hears_every_epoch_and_may_stop(level: nn.Module, make_cutter: Make) -> None:
    heard = []

    class EnoughError(Exception):
        pass

    def watch(epoch: int, means: dict[str, float]) -> None:
        heard.append((epoch, means["val/class"]))
        if epoch == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        train(level, make_cutter(), watch=watch)
    assert [epoch for epoch, _ in heard] == [0, 1, 2]


def test_unrated_trials_do_not_count(level: nn.Module, make_cutter: Make) -> None:
    unrated = tuple(f"s2_t{index:02d}" for index in range(7))
    history = train(level, make_cutter(unrated=unrated), OPTIM.model_copy(update={"lr": 1e-12, "epochs": 1}))
    assert history.best["train/class"] == pytest.approx(class_loss(level, make_cutter(), "s1"), rel=1e-5)


def test_without_a_rated_validation_trial_no_epoch_can_be_chosen(level: nn.Module, make_cutter: Make) -> None:
    unrated = tuple(f"s3_t{index:02d}" for index in range(7))
    with pytest.raises(MtkdError, match=r"no window of the validation subjects \(s3\) has both a label and a signal"):
        train(level, make_cutter(unrated=unrated))


def test_a_loss_that_is_no_number_ends_the_training(level: nn.Module, make_cutter: Make) -> None:
    with torch.no_grad():
        level.heads.classes[1].weight.fill_(math.nan)
    with pytest.raises(MtkdError, match=r"^the loss became nan in epoch 1, at the trials s\d_t\d\d, "):
        train(level, make_cutter())


def test_a_validation_loss_that_is_no_number_names_the_trials_it_is_of(level: nn.Module, make_cutter: Make) -> None:
    level.heads.classes.register_forward_hook(lambda layer, _, found: found if layer.training else found * math.nan)
    with pytest.raises(MtkdError, match=r"^the validation loss became nan in epoch 1, at the trials s3_t\d\d[, ;]"):
        train(level, make_cutter())


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_the_learning_rate_rises_to_one_and_falls_to_nothing(n_steps: int, warmup: float) -> None:
    rates = [_schedule(step, n_steps, warmup) for step in range(n_steps)]
    assert all(0 <= rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[0] > 0
