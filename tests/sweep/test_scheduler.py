"""ASHA within each search, with Ray's own scheduler inside."""

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from mtkd.sweep.scheduler import ASHAPerSearch

LOSSES = {0: [1.0, 2.0, 3.0], 1: [11.0, 10.0, 12.0]}  # of two searches' trials: the worst of one beats the best of two


def asha() -> ASHAScheduler:
    return ASHAScheduler(time_attr="epoch", metric="loss", mode="min", max_t=9, grace_period=1, reduction_factor=3)


def decisions(scheduler: Any, searches: list[int]) -> dict[int, list[str]]:
    """What a scheduler says of each search's trials after their first epoch."""
    said = {}
    for search in searches:
        trials = [
            SimpleNamespace(trial_id=f"{search}-{index}", config={"search": search})
            for index in range(len(LOSSES[search]))
        ]
        for trial in trials:
            scheduler.on_trial_add(None, trial)
        said[search] = [
            scheduler.on_trial_result(None, trial, {"epoch": 1, "loss": loss})
            for trial, loss in zip(trials, LOSSES[search], strict=True)
        ]
        for trial, loss in zip(trials, LOSSES[search], strict=True):
            scheduler.on_trial_complete(None, trial, {"epoch": 1, "loss": loss})
    return said


def test_each_search_is_decided_as_if_it_were_alone() -> None:
    alone = {search: decisions(asha(), [search])[search] for search in LOSSES}
    assert decisions(ASHAPerSearch(lambda search: asha(), lambda config: config["search"]), [0, 1]) == alone
    assert TrialScheduler.CONTINUE in alone[1]
    assert TrialScheduler.STOP in alone[1]


def test_one_asha_for_all_would_stop_the_second_search() -> None:
    """Without the scheduler under test the test above would mean nothing."""
    assert decisions(asha(), [0, 1])[1] == [TrialScheduler.STOP] * 3
