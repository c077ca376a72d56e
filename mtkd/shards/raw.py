"""The recordings a study is about: given in a folder, simulated, or fetched."""

from pathlib import Path

from mtkd.config import Study
from mtkd.console import say
from mtkd.errors import MtkdError
from mtkd.signals import readers
from mtkd.signals.download import fetch
from mtkd.signals.recording import Found
from mtkd.workspace import Unit, make_unit

VERSION = 1  # of the simulated recordings


def make_raw(study: Study) -> None:
    """Simulate the recordings or fetch public ones where the study says so and they are not there yet."""
    simulated = study.data.simulated
    if simulated is not None:
        unit = _simulated_unit(study)
        if not unit.stands():
            from mtkd.signals.simulated import write_study  # it takes a second to load

            say("shards", f"simulating {simulated.n_subjects} subjects in DEAP's file format")
            with unit.build() as (aside, _):
                write_study(simulated, aside, lambda name: say("shards", f"wrote {name}"))
    elif study.data.fetched is not None:
        fetch(_fetched(study))


def raw_folder(study: Study) -> Path:
    """Where the recordings lie.

    Raises:
        MtkdError: the folder of the study file does not exist, or the stage ``shards`` has not yet made its own.
    """
    data = study.data
    if data.folder is not None:
        folder = Path(data.folder)
        if not folder.is_dir():
            raise MtkdError(f"data.folder = {folder}: no such folder")
        return folder
    folder = _simulated_unit(study).folder if data.simulated is not None else _fetched(study)
    if not folder.is_dir():
        raise MtkdError(f"{folder}: not there yet; run `mtkd shards` first, or name the data.folder it was run with")
    return folder


def recordings(study: Study) -> Found:
    """The study's files, and what was left out.

    Raises:
        MtkdError: there are none, or a subject that the study names has none.
    """
    return readers.find(raw_folder(study), study.data)


def _simulated_unit(study: Study) -> Unit:
    assert study.data.simulated is not None
    inputs = {"stage": "raw", "version": VERSION, "simulate": study.data.simulated.model_dump()}
    return make_unit(study, "raw", "simulated", inputs)


def _fetched(study: Study) -> Path:
    return Path(study.workspace) / "raw" / str(study.data.fetched)
