"""The stage ``sweep``: for each student with swept settings, a search with Ray Tune and ASHA a fold."""

import time
from pathlib import Path
from typing import Any

import yaml

from mtkd.config import Distill, Study
from mtkd.console import counted, say
from mtkd.distill.settings import BEST, base_settings, sealed, sweep_unit
from mtkd.errors import Diverged, MtkdError
from mtkd.files import publish_file, scratch_folder, slug, write_json
from mtkd.sweep.experiment import Row, Search, cluster, name_of, run_searches
from mtkd.sweep.space import draw
from mtkd.training.fold import folds_of
from mtkd.workspace import Unit

STAGE = "sweep"


def run(study: Study) -> dict[str, list[Unit]]:
    """Search where no result stands; write each student's settings of all folds as one file that ``distill`` takes.

    Raises:
        MtkdError: bad input ended a trial, one was lost, all trials of a search diverged, or it was interrupted.
    """
    bases = {name: base_settings(study, name) for name in study.evaluate.students}
    swept = {name: base for name, base in bases.items() if base.settings == "sweep"}
    if not swept:
        say(STAGE, "no student of evaluate.students has `settings: sweep`")
    units = {name: [sweep_unit(study, fold, base) for fold in folds_of(study)] for name, base in swept.items()}
    missing: dict[Path, tuple[Unit, Search]] = {}  # two students may share a unit
    for name, base in swept.items():
        for fold, unit in zip(folds_of(study), units[name], strict=True):
            if unit.stands():
                say(STAGE, f"{name}, fold {fold.index}: reused {unit.folder}")
            else:
                missing.setdefault(unit.folder, (unit, Search(name, fold, base, draw(study, base))))
    if missing:
        _search(study, list(missing.values()))
    for name, base in swept.items():
        _write_best(study, name, base, units[name])
    return units


def _search(study: Study, missing: list[tuple[Unit, Search]]) -> None:
    searches = [search for _, search in missing]
    n_trials = sum(len(search.points) for search in searches)
    say(STAGE, f"{counted(n_trials, 'trial')} of {counted(len(searches), 'search', 'searches')}")
    started = time.perf_counter()

    def done(index: int, rows: list[Row]) -> None:
        _keep(study, *missing[index], rows, time.perf_counter() - started)

    with scratch_folder(Path(study.workspace) / STAGE / "ray") as folder:
        run_searches(study, searches, folder, done)
    n_missing = sum(not unit.stands() for unit, _ in missing)
    if n_missing:
        raise MtkdError(f"sweep: interrupted with {n_missing} of {len(missing)} searches unfinished; run it again")


def _keep(study: Study, unit: Unit, search: Search, rows: list[Row], since_start_s: float) -> None:
    """Write down how a search went and what it found."""
    best, fold = _best(rows), search.fold
    failed = [row for row in rows if row["error"]]
    with unit.build() as (folder, measured):
        write_json(folder / "trials.json", rows)
        seals = {fold.index: sealed(study, fold, best["config"])}
        _write_yaml(folder / BEST, search.name, search.base, {fold.index: best["config"]}, seals)
        measured.update(n_trials=len(rows), n_failed=len(failed), best=best["best"])
        measured.update(seconds=round(sum(row["seconds"] for row in rows), 2), cluster=cluster())
    label, n_epochs = f"{search.name}, fold {fold.index}", sum(row["epochs"] for row in rows)
    done = f"{counted(len(rows), 'trial')}, {counted(n_epochs, 'epoch')}"
    say(STAGE, f"{label}: {done}, loss {best['best']:.3f}, {since_start_s:.0f} s after the start")
    if failed:
        say(STAGE, f"{label}: {len(failed)} of {len(rows)} trials failed, the first with: {failed[0]['error']}")


def _best(rows: list[Row]) -> Row:
    """The trial of the lowest validation loss among those that did not diverge and have one.

    Raises:
        MtkdError: bad input ended a trial, one ended through no fault of its settings, or all of them diverged.
    """
    for row in rows:
        error = row["error"] or ""
        if error.startswith(name_of(MtkdError)):  # a damaged file: nothing is chosen from what is left
            raise MtkdError(error.removeprefix(name_of(MtkdError)))
        if error and not error.startswith(name_of(Diverged)):  # students are compared after equally many trials
            raise MtkdError(f"sweep: a trial ended through no fault of its settings, run it again: {error}")
    # one that diverged late has a best epoch, too, but trained again it would diverge again
    finished = [row for row in rows if row["best"] is not None and not row["error"]]
    if not finished:
        raise MtkdError(f"sweep: every trial failed, the first with: {rows[0]['error']}")
    return min(finished, key=lambda row: row["best"])


def _write_best(study: Study, name: str, base: Distill, units: list[Unit]) -> None:
    contents = [yaml.safe_load((unit.folder / BEST).read_text()) for unit in units]
    path = Path(study.workspace) / STAGE / f"best-{slug(name)}.yaml"
    folds = {index: found for content in contents for index, found in content["folds"].items()}
    seals = {index: found for content in contents for index, found in content["seals"].items()}
    _write_yaml(path, name, base, folds, seals)
    say(STAGE, f"{name}: best settings of all folds in {path}")


def _write_yaml(path: Path, name: str, base: Distill, folds: dict[int, Any], seals: dict[int, str]) -> None:
    head = "# Written by mtkd sweep; `mtkd distill STUDY distill.settings=THIS_FILE` takes it.\n"
    with publish_file(path) as aside:
        content = {"student": name, "teachers": dict(base.teachers), "folds": folds, "seals": seals}
        aside.write_text(head + yaml.safe_dump(content, sort_keys=False))
