"""From the study's search ranges to Ray Tune's domains, and to the points of one search."""

from typing import Any

import numpy as np
from ray import tune

from mtkd.config import Distill, Study
from mtkd.study import searched


def search_space(study: Study, base: Distill) -> dict[str, Any]:
    """A domain for every searched key that means something to this student."""
    domains = {}
    for key, found in searched(dict(study.sweep.search), base).items():
        if found.choice is not None:
            domains[key] = tune.choice(found.choice)
        else:
            domains[key] = (tune.loguniform if found.log else tune.uniform)(found.low, found.high)
    return domains


def draw(study: Study, base: Distill) -> list[dict[str, Any]]:
    """The settings of the trials of one search, as many as the study asks for.

    Each key is drawn by a generator of its own: its values are the same whatever else is searched, so that students
    with and without teachers try the same learning rates and widths.
    """
    values = {}
    for key, domain in search_space(study, base).items():
        random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([study.seed, *key.encode()])))
        values[key] = [domain.sample(random_state=random) for _ in range(study.sweep.n_trials)]
    return [{key: drawn[trial] for key, drawn in values.items()} for trial in range(study.sweep.n_trials)]
