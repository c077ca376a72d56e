"""One recording as a unit of work: its trials in a tar of their own, made once for any number of shard sets.

What is finished stands when the rest is interrupted, and a study that gains a recording makes only that one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from mtkd.config import Study
from mtkd.digests import Stamp, digests_of, stamp_of
from mtkd.errors import MtkdError, one_line
from mtkd.processes import become_worker
from mtkd.shards.index import Sample
from mtkd.shards.memory import keep_freed_memory
from mtkd.shards.schema import SampleInfo, encode
from mtkd.shards.write import write_shard
from mtkd.signals import readers
from mtkd.signals.preprocess import Trial, preprocess
from mtkd.signals.recording import File, Recording, Span
from mtkd.workspace import Unit, make_unit

STAGE = "recordings"
VERSION = 11  # of the arrays this code makes of a recording
TAR, TRIALS = "trials.tar", "trials.json"
_TOUCHING_S = 0.01  # times in tables are rounded
ELSEWHERE = {
    *("folder", "download", "simulate", "subjects", "exclude", "format", "pattern", "table", "task", "sessions"),
    *("trial_types", "type_column", "ratings", "stimulus"),
}
"""Keys of ``data`` that say which recordings and rows there are, which ``File.rows`` has, and not how to read them."""


class Trials(BaseModel):
    """The trials of one recording, those of it that were rejected with the reason, and which share their signals.

    ``left_out`` are channels, with the reason, and ``unheard`` keys of the study that none of its channels answers to.
    """

    trials: list[Sample]
    rejected: dict[str, str]
    overlapping: list[str] = []
    left_out: dict[str, str] = {}
    unheard: list[str] = []


@dataclass(frozen=True)
class Job:
    """A recording, its unit, and the stamps of its files from before their checksums were taken."""

    file: File
    unit: Unit
    stamps: list[Stamp]


def jobs_of(study: Study, files: list[File]) -> list[Job]:
    """All recordings with their units, for which their files are read unless their digests are known."""
    stamped = [_stamps(file) for file in files]
    paths = [path for file in files for path in file.paths]
    digests = digests_of(paths, Path(study.workspace))
    sections = {"data": study.data.model_dump(exclude=ELSEWHERE), "signals": study.signals.model_dump()}
    jobs = []
    for file, stamps in zip(files, stamped, strict=True):
        inputs = {
            "stage": STAGE,
            "version": VERSION,
            **sections,
            "name": file.name,
            "subject": file.subject,
            "rows": file.rows,
            "files": {path.name: digests[path] for path in file.paths},
        }
        jobs.append(Job(file, make_unit(study, STAGE, file.name, inputs), stamps))
    return jobs


def _stamps(file: File) -> list[Stamp]:
    return [stamp_of(path) for path in file.paths]


def build(study: Study, job: Job, starter: int | None) -> None:
    """Make the unit of one recording, in a process that ``starter`` started; None where that is not ours to end.

    Raises:
        MtkdError: the recording is damaged, not what the study says, or changed since its checksum was taken.
    """
    if starter is not None and become_worker(starter):
        keep_freed_memory(however_large=True)
    file, unit = job.file, job.unit
    told = Trials(trials=[], rejected={})
    with unit.build() as (folder, measured):
        told.trials = write_shard(folder / TAR, _samples(study, file, told))
        (folder / TRIALS).write_text(told.model_dump_json(), encoding="utf-8")
        if _stamps(file) != job.stamps:
            raise MtkdError(f"{file.path}: was changed while it was read; run it again")
        measured.update(n_trials=len(told.trials))


def read_trials(unit: Unit) -> Trials:
    """What the unit of a recording holds.

    Raises:
        MtkdError: its table of trials is damaged.
    """
    path = unit.folder / TRIALS
    try:
        return Trials.model_validate_json(path.read_bytes())
    except ValidationError:
        raise MtkdError(f"{path}: damaged; delete {unit.folder} to make it again") from None


def _samples(study: Study, file: File, told: Trials) -> Iterator[tuple[SampleInfo, dict[str, bytes]]]:
    keys: set[str] = set()
    try:
        for span, signals in _trials(study, file, told):
            info, members = encode(file.subject, span, signals, study.signals.entropy)
            if info.key in keys:
                raise MtkdError(f"{file.path}: the trial {info.key} comes twice")
            keys.add(info.key)
            yield info, members
    except MemoryError:
        raise MtkdError(f"{file.path}: takes more memory than there is") from None
    except OSError as error:  # of a bad disk, which names no file
        raise MtkdError(f"{error.filename or file.path}: {error.strerror or one_line(error)}") from None


def _trials(study: Study, file: File, told: Trials) -> Iterator[Trial]:
    for whole in readers.read(file, study.data.only(study.signals.heard)):
        told.rejected.update(whole.rejected)
        for stream in whole.streams.values():
            told.left_out.update(stream.left_out)
        unheard = [stream.unheard for stream in whole.streams.values()]
        told.unheard = sorted(frozenset.intersection(*unheard)) if unheard else []
        told.overlapping.extend(_overlaps(whole.spans))
        _check_modalities(study, file.path, whole)
        recording = _without_short(study, whole, told.rejected)
        for span, signals in preprocess(recording, study.signals):
            if any(signal.valid.any() for signal in signals.values()):
                yield span, signals
            else:
                told.rejected[span.name] = "no sensor gave a signal"


def _overlaps(spans: list[Span]) -> list[str]:
    """Of each trial that begins before one that began earlier is over: which two, and for how long.

    A study may want that, but more often its table of times is wrong.
    """
    found = []
    last: Span | None = None  # of those before, the one that ends last
    for span in sorted(spans, key=lambda span: span.start_s):
        if last is not None and last.stop_s - span.start_s > _TOUCHING_S:
            shared_s = min(last.stop_s, span.stop_s) - span.start_s
            found.append(f"{last.name} and {span.name} share {shared_s:g} s")
        if last is None or span.stop_s > last.stop_s:
            last = span
    return found


def _without_short(study: Study, recording: Recording, rejected: dict[str, str]) -> Recording:
    """Without the trials that have no sample of some signal, or but one, which nothing could be made of."""
    rates = [
        (recording.streams[name], each) for name, each in study.signals.modalities.items() if name in recording.streams
    ]
    slowest = min(min(stream.sfreq, settings.sfreq) for stream, settings in rates)
    kept = []
    native = min(stream.sfreq for stream, _ in rates)
    for span in recording.spans:
        length_s = span.stop_s - span.start_s
        if length_s * slowest < 1:
            rejected[span.name] = f"{length_s:g} s hold no sample at {slowest:g} Hz"
        elif round((length_s + study.signals.lead_s) * native) < 2:
            rejected[span.name] = f"{length_s:g} s hold one sample at {native:g} Hz"
        else:
            kept.append(span)
    return replace(recording, spans=kept)


def _check_modalities(study: Study, path: Path, recording: Recording) -> None:
    absent = [name for name in study.signals.modalities if name not in recording.streams]
    if absent and study.data.absent == "refuse":
        has = "; ".join(f"{kind}: {', '.join(stream.ch_names)}" for kind, stream in recording.streams.items())
        left_out = {name: why for stream in recording.streams.values() for name, why in stream.left_out.items()}
        has += "".join(f"; {name} is left out, {why}" for name, why in left_out.items())
        raise MtkdError(
            f"{path}: has no {absent[0]}, which signals.modalities asks for (data.absent: mask takes it so), but {has}"
        )
    if len(absent) == len(study.signals.modalities):
        raise MtkdError(f"{path}: has none of the modalities of signals.modalities")
