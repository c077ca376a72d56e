"""ASHA within each of several searches that share the slots of one Tune experiment."""

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.schedulers.trial_scheduler import FIFOScheduler


class ASHAPerSearch(FIFOScheduler):
    """Trials start in their order, whichever search they belong to, and are compared with those of their own only.

    Searches one after another would leave slots idle while the last trial of each runs on.

    Args:
        make: makes the scheduler of a search (Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020).
        search_of: the index of the search that a trial of some configuration belongs to.
    """

    def __init__(self, make: Callable[[int], ASHAScheduler], search_of: Callable[[dict[str, Any]], int]) -> None:
        super().__init__()
        self._make, self._search_of = make, search_of
        self._schedulers: dict[int, ASHAScheduler] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """See ``TrialScheduler``."""
        self._own(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """See ``TrialScheduler``."""
        return self._own(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """See ``TrialScheduler``."""
        self._own(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """See ``TrialScheduler``."""
        self._own(trial).on_trial_remove(tune_controller, trial)

    def _own(self, trial: Any) -> ASHAScheduler:
        search = self._search_of(trial.config)
        if search not in self._schedulers:
            self._schedulers[search] = self._make(search)
        return self._schedulers[search]
