"""A leak to plant."""

import shutil
from collections.abc import Callable

import pytest

from mtkd.cache import build
from mtkd.config import Study
from mtkd.signals.splits import Fold
from mtkd.teachers.spatial import train as spatial
from mtkd.training.fold import FoldData, Job


@pytest.fixture
def leak() -> Callable[[Study, Fold, str], None]:
    """Train a fold's spatial teacher again by a loader that hands it a subject's trials too, and ask it anew.

    The fold itself is honest: it names the subjects that were to be heard.
    """

    def plant(study: Study, fold: Fold, subject: str) -> None:
        unit, given = build.teacher_unit(study, fold, "spatial"), FoldData.keys
        for caught in (unit, build.unit_of(study, fold, "spatial")):
            shutil.rmtree(caught.folder)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(FoldData, "keys", lambda self, subjects: given(self, [*subjects, subject]))
            spatial._train(Job(study, fold, unit, ""))
        build.run(study)

    return plant
