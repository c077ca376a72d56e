"""The stage ``predict``: a student on a recording without EEG, as a CSV and a plot."""

import csv
import glob
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from mtkd.config import Distill, Kind, Modality, Study
from mtkd.console import counted, say
from mtkd.deploy.timeline import Timeline, plot_predictions
from mtkd.digests import digest_of_all
from mtkd.distill.settings import settings_of
from mtkd.distill.student import Student
from mtkd.distill.train import load_model
from mtkd.distill.train import unit_of as student_unit
from mtkd.errors import MtkdError
from mtkd.files import publish_file, slug
from mtkd.shards.batch import Batch, layouts, place_windows
from mtkd.shards.build import open_shards
from mtkd.shards.labels import UNLABELLED
from mtkd.shards.raw import raw_folder, recordings
from mtkd.shards.recordings import ELSEWHERE
from mtkd.shards.schema import Layout
from mtkd.signals import readers
from mtkd.signals.channels import origin
from mtkd.signals.preprocess import Signal, lasts_s, preprocess
from mtkd.signals.readers.companions import all_of
from mtkd.signals.readers.raw import RENAME
from mtkd.signals.recording import File, Recording, Span, Stream
from mtkd.signals.simulated import WEARABLE
from mtkd.signals.splits import Fold
from mtkd.signals.windows import n_windows
from mtkd.training.fold import folds_of, make_cutter
from mtkd.workspace import Unit, make_unit

STAGE = "predict"
VERSION = 11


def run(study: Study) -> Path:
    """Predict ``predict.recording`` with the students of all folds, unless that stands; return the CSV's path.

    Without one named, a simulated study takes the wearable's recording it brings along, and any other study a
    recording of a test subject of its first fold, of which that fold's student hears everything but the EEG.

    Raises:
        MtkdError: the recording is not readable, has none of the student's modalities, or is shorter than a window.
    """
    path, folds = _chosen(study)
    if not path.is_file():
        raise MtkdError(f"predict.recording = {path}: no such file")
    unit = _unit(study, path, [unit for _, unit in _students(study, folds)])
    # not the recording's own name: a table of the truth may stand beside it
    stem, title = f"{path.stem}-{slug(study.predict.student)}", f"{path.name}, “{study.predict.student}”"
    table, picture = (unit.folder / f"{stem}-prediction.{kind}" for kind in ("csv", "png"))
    if unit.stands():
        say(STAGE, f"reused {table} and {picture.name}")
    else:
        timeline = predict_recording(study, path, folds)
        if digest_of_all(all_of(path)) != unit.inputs["recording"]:
            raise MtkdError(f"{path}: was changed while it was read; run it again")
        with unit.build() as (folder, measured):
            _write_table(folder / table.name, timeline, study.class_names)
            plot_predictions(timeline, study.class_names, title, folder / picture.name)
            measured.update(student=study.predict.student, folds=[fold.index for fold in folds])
        if not np.isfinite(timeline.probs).any():
            say(STAGE, f"{path.name}: no sensor gave a signal, so there is no answer")
        say(STAGE, f"{counted(len(timeline.start_s), 'window')} of {title}: {table} and {picture.name}")
    if study.predict.output is not None:
        for file in (table, picture):
            with publish_file(Path(study.predict.output) / file.name) as aside:
                shutil.copyfile(file, aside)
        say(STAGE, f"copied both to the folder {study.predict.output}")
    return table


def _chosen(study: Study) -> tuple[Path, list[Fold]]:
    folds = folds_of(study)
    if study.predict.recording is not None:
        path = Path(study.predict.recording)
        return path, _not_trained_on(study, path, folds)
    if study.data.simulated is not None:
        return raw_folder(study) / WEARABLE, folds
    path = next(file.path for file in recordings(study).files if file.subject == folds[0].test[0])
    say(STAGE, f"predict.recording is not set: taking {path.name}, a test subject of fold 0, without its EEG")
    return path, folds[:1]


def _not_trained_on(study: Study, path: Path, folds: list[Fold]) -> list[Fold]:
    """All folds, or of a recording of the study's own those that test its subject."""
    own = open_shards(study)[0].manifest().measured["sources"]
    subject = (
        own.get(digest_of_all(all_of(path))) if path.is_file() else None
    )  # a copy under another name is as well known
    if subject is None:
        return folds
    say(STAGE, f"{path.name} is one of the study's own: taking the student of the fold that tests {subject}")
    return [fold for fold in folds if subject in fold.test]


def _unit(study: Study, path: Path, students: list[Unit]) -> Unit:
    inputs = {
        "stage": STAGE,
        "version": VERSION,
        "recording": digest_of_all(all_of(path)),
        "told": own.rows if (own := _own_file(study, path)) else readers.beside(path, study.data),
        "student": study.predict.student,
        "students": [unit.manifest().digest for unit in students],
        "signals": study.signals.model_dump(),
        "data": study.data.model_dump(exclude=ELSEWHERE),
        "channels": study.predict.channels,
        "windows": study.windows.model_dump(),
        "classes": study.class_names,
    }
    return make_unit(study, STAGE, path.stem, inputs)


def _students(study: Study, folds: list[Fold]) -> list[tuple[Distill, Unit]]:
    """Settings and unit of the student of each fold."""
    chosen = [(fold, settings_of(study, study.predict.student, fold)) for fold in folds]
    return [(settings, student_unit(study, fold, settings)) for fold, settings in chosen]


def predict_recording(study: Study, path: Path, folds: list[Fold]) -> Timeline:
    """The mean answer of some folds' students along a recording, window by window with their states.

    The first window starts after ``signals.lead_s``, which the filters had before every trial of the training too.

    Raises:
        MtkdError: as ``run``.
    """
    _, shards = open_shards(study)
    students = _students(study, folds)
    duration_s, signals = _read(study, path, layouts(shards.index.samples, students[0][0].modalities))
    answers = []
    for fold, (settings, unit) in zip(folds, students, strict=True):
        known = make_cutter(study, shards, fold, settings.modalities, study.windows).layouts
        model = load_model(study, shards, fold, settings, unit.folder)
        said = _follow(model, _windows(study, path, duration_s, signals, known))
        if said is None:
            raise MtkdError(
                f"{unit.folder}: the student says what is no number of {path}; delete it, and train it anew"
            )
        answers.append(said)
    probs, confidence = (_mean(np.stack(part).astype(float)) for part in zip(*answers, strict=True))
    start_s = study.signals.lead_s + np.arange(len(probs)) * study.windows.hop_s
    return Timeline(start_s, start_s + study.windows.window_s, probs, confidence)


def _read(study: Study, path: Path, known: dict[Modality, Layout]) -> tuple[float, dict[Modality, Signal]]:
    """How long the recording is after its lead, and its signals of the student's modalities, preprocessed as its
    training data were.
    """
    raw_names = {kind: list(dict.fromkeys(map(origin, layout.ch_names))) for kind, layout in known.items()}
    streams = _streams(study, path, raw_names)
    matched = {kind: _matched(streams[kind], names, kind) for kind, names in raw_names.items() if kind in streams}
    heard = {kind: stream for kind, stream in matched.items() if stream.ch_names}
    if not heard:
        wanted = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in raw_names.items())
        has = ", ".join(f"{name} ({kind})" for kind, stream in streams.items() for name in stream.ch_names)
        raise MtkdError(f"{path}: has none of the student's modalities ({wanted}); its channels are {has}; {RENAME}")
    duration_s, lead_s = min(stream.n_times / stream.sfreq for stream in heard.values()), study.signals.lead_s
    if n_windows(duration_s - lead_s, study.windows.window_s, study.windows.hop_s) == 0:
        needed = f"one window of {study.windows.window_s:g} s" + f" after {lead_s:g} s for the filters" * (lead_s > 0)
        raise MtkdError(f"{path}: {duration_s:g} s long, shorter than {needed}")
    missing: list[str] = sorted(known.keys() - heard.keys())
    missing += [f"{name} ({kind})" for kind in heard for name in raw_names[kind] if name not in heard[kind].ch_names]
    if missing:
        say(STAGE, f"{path.name} has no {', '.join(missing)}: masked ({RENAME})")
    recording = Recording(path.stem, str(path), heard, [Span("whole", "", lead_s, duration_s)])
    span, signals = next(preprocess(recording, study.signals))
    return lasts_s(span, [signal.sfreq for signal in signals.values()]), signals


def _streams(study: Study, path: Path, raw_names: dict[Modality, list[str]]) -> dict[Modality, Stream]:
    arrays = path.suffix.lower() in (".dat", ".mat") and study.data.reader == "deap"
    file = File(path.stem, path.stem, (path,)) if arrays else _own_file(study, path)
    data = study.data.only(raw_names)
    if file is not None:  # as it was read for the training
        first = next(readers.read(file, data), None)
        if first is None:
            raise MtkdError(f"{path}: holds no trial")
        if arrays:
            say(STAGE, f"{path.name} holds trials that were cut apart: taking the first")
        return first.streams
    # it may bring what nobody asks for
    own: dict[str, Kind] = {**_asked(raw_names, study.predict.channels), "*": "ignore"}
    return readers.streams(path, data, own, study.predict.channels)


def _asked(raw_names: dict[Modality, list[str]], given: dict[str, str]) -> dict[str, Modality]:
    """The channels that the student knows, of which some may share a name: then with the type before it, as in EDF+.

    Raises:
        MtkdError: ``given``, which are ``predict.channels``, call one by a name that means two.
    """
    kinds: dict[str, list[Modality]] = {}
    for kind, names in raw_names.items():
        for name in names:
            kinds.setdefault(name, []).append(kind)
    asked: dict[str, Modality] = {}
    for name, own in kinds.items():
        full = [name] if len(own) == 1 else [f"{kind.upper()} {name}" for kind in own]
        if len(own) > 1 and name in given.values():
            raise MtkdError(f"predict.channels: {name!r} is a channel of {' and '.join(own)}; say {' or '.join(full)}")
        asked |= dict(zip(map(glob.escape, full), own, strict=True))
    return asked


def _own_file(study: Study, path: Path) -> File | None:
    """The recording of the study that this is, where its recordings are here and no channel goes by another name."""
    if study.shards.root is not None or study.data.simulated is not None or study.predict.channels:
        return None
    return next((file for file in recordings(study).files if file.path.resolve() == path.resolve()), None)


def _matched(stream: Stream, known: list[str], kind: Modality) -> Stream:
    """The recording's channels of a modality that the student hears, under the names it knows them by.

    Those are the same, with or without the modality before them, but where the student knows one channel of a modality
    and the recording has one: a chest strap's ECG is the student's, whatever it is called.
    """
    if len(stream.ch_names) == len(known) == 1:
        return replace(stream, ch_names=known)
    own = {name: row for row, name in enumerate(stream.ch_names)}
    rows = {name: own.get(name, own.get(f"{kind.upper()} {name}", -1)) for name in known}
    rows = {name: row for name, row in rows.items() if row >= 0}
    order = sorted(rows.values())
    ch_names = sorted(rows, key=rows.__getitem__)
    return replace(stream, ch_names=ch_names, read=lambda start, stop: stream.read(start, stop)[order])


def _windows(
    study: Study, path: Path, duration_s: float, signals: dict[Modality, Signal], known: dict[Modality, Layout]
) -> list[Batch]:
    """One batch a window, on the channels the student was trained on."""
    window_s, hop_s = study.windows.window_s, study.windows.hop_s
    n_steps = n_windows(duration_s, window_s, hop_s)
    arrays, masks = {}, {}
    for modality, layout in known.items():
        data = np.zeros((n_steps, len(layout.ch_names), round(window_s * layout.sfreq)), np.float32)
        valid = np.zeros((n_steps, len(layout.ch_names)), bool)
        if modality in signals:
            signal = signals[modality]
            own = Layout(ch_names=signal.ch_names, sfreq=signal.sfreq)
            place_windows(signal.data, signal.valid, own, layout, study.windows, data, valid)
        arrays[modality], masks[modality] = torch.from_numpy(data), torch.from_numpy(valid)
    one = torch.ones(1, 1, dtype=torch.bool)
    return [
        Batch(
            {name: array[None, k : k + 1] for name, array in arrays.items()},
            {name: mask[None, k : k + 1] for name, mask in masks.items()},
            one,
            torch.tensor([UNLABELLED]),
            [path.stem],
        )
        for k in range(n_steps)
    ]


@torch.inference_mode()
def _follow(model: Student, batches: list[Batch]) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities and confidence of each window, NaN where nothing is heard; None where the model says no number."""
    state, probs, confidence = None, [], []
    for batch in batches:
        signal, state = model.step(batch, state)
        heard = bool(signal.mask[0, 0])
        if heard and not (signal.logits.isfinite().all() and signal.confidence.isfinite().all()):
            return None
        probs.append(signal.logits[0, 0].softmax(-1).numpy() if heard else np.full(signal.logits.shape[-1], np.nan))
        confidence.append(float(signal.confidence[0, 0]) if heard else np.nan)
    return np.stack(probs), np.array(confidence)


def _mean(answers: Float[np.ndarray, "fold window ..."]) -> Float[np.ndarray, "window ..."]:
    """Over the students that heard the window, NaN where none did."""
    heard = (~np.isnan(answers)).sum(axis=0)
    return np.where(heard, np.nansum(answers, axis=0) / np.maximum(heard, 1), np.nan)


def _write_table(path: Path, timeline: Timeline, class_names: list[str]) -> None:
    columns = ["start_s", "stop_s", *(f"p({name})" for name in class_names), "confidence"]
    rows = np.column_stack([timeline.start_s, timeline.stop_s, timeline.probs, timeline.confidence])
    with publish_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{value:.6g}" for value in row] for row in rows)
