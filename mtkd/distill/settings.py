"""Which settings a student is trained with on a fold: the study's, or those a sweep found for it."""

import functools
import operator
from pathlib import Path
from typing import Any

import yaml

from mtkd.cache.build import listened_to
from mtkd.cache.build import unit_of as cache_unit
from mtkd.config import Distill, Study
from mtkd.errors import MtkdError
from mtkd.files import fingerprint, refuse_deep
from mtkd.shards.build import open_shards
from mtkd.signals.splits import Fold
from mtkd.study import ANOTHER_STUDENT, changed, searched
from mtkd.training.fold import common_inputs
from mtkd.workspace import Unit, make_unit

BEST = "best.yaml"
VERSION = 4  # of what a search makes of its inputs


class NotSweptYet(MtkdError):
    """A student waits for the search of its settings."""


def base_settings(study: Study, name: str) -> Distill:
    """The ``distill`` section with the changes of one student of the table, before any sweep."""
    return changed(study.distill, study.evaluate.students[name], f"evaluate.students.{name}")


def settings_of(study: Study, name: str, fold: Fold) -> Distill:
    """The settings of one student on one fold.

    Raises:
        NotSweptYet: they come from a search that has not been made.
        MtkdError: the file they come from is missing, or says nothing of this fold.
    """
    base = base_settings(study, name)
    if base.settings is None:
        return base
    if base.settings == "sweep":
        unit = sweep_unit(study, fold, base)
        if not unit.stands():
            raise NotSweptYet(f"evaluate.students.{name} takes swept settings; run `mtkd sweep` first")
        return apply_best(study, base, unit.folder / BEST, fold)
    return apply_best(study, base, Path(base.settings), fold)


def is_swept(base: Distill) -> bool:
    """Whether a student's settings come from a search, its own or one that a file tells of."""
    if base.settings is None or base.settings == "sweep":
        return base.settings is not None
    return _read_best(Path(base.settings))["teachers"] == base.teachers


def chosen_on(study: Study, fold: Fold) -> str:
    """Fingerprint of what a search was made on: settings found on other data, labels or subjects are none for these."""
    inputs = common_inputs(study, "sweep", fold, open_shards(study)[0]) | {"crossfit": study.splits.crossfit}
    return fingerprint({key: inputs[key] for key in ("labels", "windows", "split", "data", "crossfit")})


def sealed(study: Study, fold: Fold, changes: dict[str, Any]) -> str:
    """Fingerprint of settings with what they were chosen on."""
    return fingerprint({"chosen_on": chosen_on(study, fold), "changes": dict(sorted(changes.items()))})


def apply_best(study: Study, base: Distill, path: Path, fold: Fold) -> Distill:
    """``base`` with the changes that a sweep's file holds for a fold.

    They were chosen for a student with certain teachers; one with others, or with none, keeps the study's settings, or
    what distillation needs would be taken for what suits labels alone.

    Raises:
        MtkdError: the file is missing, is none of the sweep's, was chosen on other data or another split, or changed.
    """
    content = _read_best(path)
    if content["teachers"] != base.teachers:
        return changed(base, {"settings": None}, str(path))
    try:
        changes: dict[str, Any] = dict(content["folds"][fold.index])
        found = content["seals"][fold.index]
    except (ValueError, KeyError, TypeError):
        raise MtkdError(f"{path}: no settings for fold {fold.index}; expected a file that `mtkd sweep` wrote") from None
    for key in changes:
        if str(key).split(".")[0] in ANOTHER_STUDENT:
            raise MtkdError(f"{path}: {key} makes another student, not other settings of one")
    changed(base, changes, str(path))  # refuses what is no key at all
    if found != sealed(study, fold, changes):
        raise MtkdError(
            f"{path}: chosen on other data, labels, windows, cross-fitting or another split of the subjects than fold "
            f"{fold.index}'s, or changed since; settings of your own are keys of distill"
        )
    return changed(base, {"settings": None} | searched(changes, base), str(path))


def _read_best(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        refuse_deep(text)
        content = yaml.safe_load(text)
    except OSError as error:
        raise MtkdError(f"distill.settings = {path}: {(error.strerror or 'not readable').lower()}") from None
    except Exception:  # whatever foreign bytes make yaml raise, a RecursionError too
        content = None
    if (
        not isinstance(content, dict)
        or not {"teachers", "folds", "seals"} <= content.keys()
        or not all(isinstance(content[key], dict) for key in ("teachers", "folds", "seals"))
    ):
        raise MtkdError(f"{path}: expected a file that `mtkd sweep` wrote, with teachers, folds and seals")
    return content


def student_inputs(study: Study, stage: str, fold: Fold, settings: Distill) -> dict[str, Any]:
    """What a student depends on: of the caches, those of its own teachers."""
    inputs = common_inputs(study, stage, fold, open_shards(study)[0])
    inputs["settings"] = searched(settings.model_dump(exclude={"crossfit"}), settings)  # the caches tell of that
    heard = listened_to(study, fold, settings.crossfit)
    inputs["cache"] = {
        name: [cache_unit(study, each, name).manifest().digest for each in heard] for name in settings.teachers
    }
    return inputs


def sweep_unit(study: Study, fold: Fold, base: Distill) -> Unit:
    """The unit of the search of one student's settings on one fold: written by ``sweep``, read here."""
    search = {key: found.model_dump() for key, found in searched(dict(study.sweep.search), base).items()}
    settings = study.sweep.model_dump(exclude={"search", "cpus_per_trial", "gpus_per_trial", "ray_address"})
    inputs = student_inputs(study, "sweep", fold, base) | {"sweep": settings | {"version": VERSION, "search": search}}
    for key in search:  # what is searched replaces what the study says of it
        *sections, last = key.split(".")
        functools.reduce(operator.getitem, sections, inputs["settings"]).pop(last)
    return make_unit(study, "sweep", f"fold-{fold.index}", inputs)
