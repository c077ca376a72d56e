"""From ranges to Ray Tune's domains."""

from collections.abc import Callable
from typing import Any

import pytest

from mtkd.config import Study
from mtkd.distill.settings import base_settings
from mtkd.errors import MtkdError
from mtkd.sweep.space import draw, search_space

SEARCH = (
    "{optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}, temperature: {low: 1.0, high: 5.0}, width: {choice: [16, 64]}}"
)


def space(study: Study, name: str = "distilled, swept") -> dict[str, Any]:
    return search_space(study, base_settings(study, name))


def test_every_kind_of_range_becomes_its_domain(make_study: Callable[..., Study]) -> None:
    found = space(make_study(f"sweep.search={SEARCH}"))
    assert list(found) == ["optim.lr", "temperature", "width"]
    drawn = {key: [domain.sample() for _ in range(400)] for key, domain in found.items()}
    assert 1e-4 <= min(drawn["optim.lr"]) < 2e-4
    assert 5e-3 < max(drawn["optim.lr"]) <= 1e-2
    assert 0.4 < sum(value < 1e-3 for value in drawn["optim.lr"]) / 400 < 0.6  # half below the geometric mean
    assert 1.0 <= min(drawn["temperature"]) < max(drawn["temperature"]) <= 5.0
    assert 0.4 < sum(value < 3 for value in drawn["temperature"]) / 400 < 0.6
    assert set(drawn["width"]) == {16, 64}


def test_without_teachers_theirs_are_not_searched(make_study: Callable[..., Study]) -> None:
    study = make_study(f"sweep.search={SEARCH}")
    assert list(space(study, "labels alone, swept")) == ["optim.lr", "width"]


def test_a_keys_values_are_the_same_whatever_else_is_searched(make_study: Callable[..., Study]) -> None:
    study = make_study(f"sweep.search={SEARCH}", "sweep.n_trials=7")
    both, alone = (draw(study, base_settings(study, name)) for name in ("distilled, swept", "labels alone, swept"))
    assert len(both) == len(alone) == 7
    for point, other in zip(both, alone, strict=True):
        assert list(point) == ["optim.lr", "temperature", "width"]
        assert other == {key: value for key, value in point.items() if key != "temperature"}
    assert len({point["optim.lr"] for point in both}) == 7
    again = make_study(f"sweep.search={SEARCH}", "sweep.n_trials=7", "seed=1")
    assert draw(again, base_settings(again, "distilled, swept")) != both


@pytest.mark.parametrize("search", ["{}", "{temperature: {low: 1.0, high: 2.0}}"])
def test_nothing_to_search_is_refused_before_anything_runs(make_study: Callable[..., Study], search: str) -> None:
    with pytest.raises(MtkdError, match=r"sweep\.search names nothing for evaluate\.students\.labels alone, swept"):
        make_study(f"sweep.search={search}")


@pytest.mark.parametrize("key", ["optim[lr]", "[optim][lr]", "[width]", "Width", "optim. lr"])
def test_what_is_no_key_is_refused(make_study: Callable[..., Study], key: str) -> None:
    with pytest.raises(MtkdError, match=r"sweep\.search: '.*' is no key$"):
        make_study(f'sweep.search={{"{key}": {{low: 0.1, high: 0.2}}}}')


@pytest.mark.parametrize(
    ("search", "named"),
    [
        ("{no_such: {low: 1.0, high: 2.0}}", "no_such"),
        ("{optim.lrr: {low: 1.0, high: 2.0}}", "lrr"),
        ("{width: {choice: [16, 2]}}", "width"),
        ("{temperature: {low: 0.0, high: 2.0}}", "temperature"),
        ("{width: {low: 8.0, high: 16.0}}", "width"),
        ("{kd: {low: 1.0}}", "kd"),
        ("{kd: {low: 1.0, high: 2.0, choice: [1.0]}}", "kd"),
        ("{kd: {low: 2.0, high: 1.0}}", "kd"),
        ("{kd: {low: 0.0, high: 1.0, log: true}}", "kd"),
        ("{kd: {choice: []}}", "kd"),
    ],
)
def test_an_impossible_range_is_refused_before_anything_runs(
    make_study: Callable[..., Study], search: str, named: str
) -> None:
    with pytest.raises(MtkdError, match=rf"sweep\.search.*{named}") as refused:
        make_study(f"sweep.search={search}")
    assert "\n" not in str(refused.value)
