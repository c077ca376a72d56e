"""The two heads: what each may change, and what they say."""

import pytest
import torch
from torch import Tensor

from mtkd.layers.heads import Heads, TeacherSignal

N_FEATURES, N_CLASSES = 16, 4


@pytest.fixture
def heads() -> Heads:
    torch.manual_seed(0)
    return Heads(N_FEATURES, N_CLASSES, dropout=0.5)


def features(scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(2, 5, N_FEATURES, generator=torch.Generator().manual_seed(0))).requires_grad_()


MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def test_the_confidence_loss_sends_no_gradient_into_the_features(heads):
    given = features()
    heads(given, MASK).confidence.square().sum().backward()
    assert given.grad is None or not given.grad.any()
    assert all(parameter.grad is None for parameter in heads.classes.parameters())
    assert any(parameter.grad.any() for parameter in heads.confidence.parameters())


def test_the_class_loss_sends_its_gradient_into_the_features_and_none_into_the_confidence(heads):
    given = features()
    heads(given, MASK).logits.square().sum().backward()
    assert given.grad.any(dim=-1).all()
    assert all(parameter.grad is None for parameter in heads.confidence.parameters())


def test_the_features_that_are_handed_on_are_those_that_came_in(heads):
    given = features()
    said = heads(given, MASK)
    assert said.features is given  # with their gradient: hints train what is below
    assert said.mask.equal(MASK)
    assert said.fingerprint == ""


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_confidence_is_a_probability_and_shapes_are_those_of_the_windows(heads, scale):
    said = heads(features(scale), MASK)
    assert said.logits.shape == (2, 5, N_CLASSES)
    assert said.confidence.shape == (2, 5)
    assert ((said.confidence >= 0) & (said.confidence <= 1)).all()


def test_confidence_is_not_always_the_same(heads):
    assert heads(features(), MASK).confidence.std() > 0


def test_confidence_starts_as_what_a_calibrated_model_gives_the_true_class_on_average(heads):
    said = heads(features(), MASK)
    drawn = torch.multinomial(said.logits.softmax(-1).flatten(0, 1), 20_000, replacement=True)  # the true classes
    given = said.logits.softmax(-1).flatten(0, 1).gather(1, drawn).mean(1)
    torch.testing.assert_close(said.confidence.flatten(), given, atol=0.01, rtol=0)


def test_confidence_learns_that_a_model_is_surer_than_it_should_be(heads):
    given = 4 * features().detach()
    heads.eval()
    optimizer = torch.optim.Adam(heads.confidence.parameters(), 0.01)
    for _ in range(500):
        loss = (heads(given, MASK).confidence - 0.5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    said = heads(given, MASK)
    assert said.logits.softmax(-1).max(-1).values.mean() > 0.7
    assert (said.confidence - 0.5).abs().mean() < 0.1


def test_only_in_training_anything_drops_out(heads):
    given = features()
    assert not heads(given, MASK).logits.equal(heads(given, MASK).logits)
    heads.eval()
    one, other = heads(given, MASK), heads(given, MASK)
    assert one.logits.equal(other.logits)
    assert one.confidence.equal(other.confidence)


def test_what_a_teacher_said_cannot_be_changed():
    said = TeacherSignal(
        torch.zeros(1, 1, 2), torch.zeros(1, 1, 3), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    )
    with pytest.raises(AttributeError):
        said.logits = torch.ones(1, 1, 2)
