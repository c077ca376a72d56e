"""A BIDS data set of EEG: recordings are found by mne-bids, trials are rows of ``events.tsv``.

Channels are typed by ``channels.tsv``, where ``data.channels`` does not say otherwise; one that is ``bad`` there is
left out of its recording, unless ``data.channels`` has its very name. Its units hold where an EDF has none, as in those
that MNE writes, and for what is no voltage in EEGLAB's files, which have none at all. What another device recorded
meanwhile is in ``_physio.tsv.gz`` files.
"""

import glob
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtkd.config import Bids, Kind, Modality
from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import plain_name
from mtkd.signals.readers.columns import ABSENT, number, ratings, read_rows
from mtkd.signals.readers.companions import all_of
from mtkd.signals.readers.names import names_of
from mtkd.signals.readers.physio import read_physio, tables_of
from mtkd.signals.readers.raw import described, read_streams, units_in
from mtkd.signals.readers.sidecars import description, is_there, nearest, root_of
from mtkd.signals.recording import File, Found, Recording, Span, Stream

_KINDS: dict[str, Kind] = {
    "EEG": "eeg",
    "EOG": "eog",
    "HEOG": "eog",
    "VEOG": "eog",
    "EMG": "emg",
    "ECG": "ecg",
    "GSR": "eda",
    "RESP": "resp",
    "PPG": "ppg",
    "TEMP": "temp",
}
_SHORTER, _SHORTER_S = 0.01, 1.0  # than its description says, a recording may be by rounding
_BAD = "channels.tsv calls it bad"
_EXTENSIONS = [".edf", ".bdf", ".vhdr", ".set"]
_FORMATS = ", ".join(_EXTENSIONS)
_RECORDINGS = (*_EXTENSIONS, ".fif", ".fif.gz", ".edf.gz", ".bdf.gz", ".gdf", ".cnt", ".mff", ".mefd", ".nwb", ".xdf")
"""How the names of recordings end, BIDS' and others'."""


def find(folder: Path, data: Bids) -> Found:
    """The recordings of the data set that have trials.

    Raises:
        MtkdError: there are several tasks and ``data.task`` names none of them, or a table is damaged.
    """
    files, left_out = [], {}
    types: set[str] = set()
    for path in _recordings(folder, data):
        main = Path(path.fpath)
        if not data.takes(str(path.subject)):  # its tables may not even be there
            files.append(File(main.stem.rpartition("_")[0], str(path.subject), (main,)))
            continue
        events = nearest(main, folder, "events.tsv")
        trials = _trials(events, path, data, types) if events else []
        if trials:
            files.append(_file(folder, main, str(path.subject), trials))
        else:
            left_out[path.basename] = "none of its events is a trial" if events else "no events.tsv holds for its name"
    for name in data.trial_types or []:
        if types and name not in types:
            raise MtkdError(f"{folder}: no event is {name!r}, as data.trial_types has it; they are {_listed(types)}")
    return Found(files, _passed_over(folder, data, [*left_out, *(file.path.name for file in files)]) | left_out)


def _recordings(folder: Path, data: Bids) -> list[Any]:
    """Those of the study's task and sessions, as mne-bids names them."""
    import mne_bids  # which takes a second

    options = {"suffixes": "eeg", "datatypes": "eeg", "extensions": _EXTENSIONS, "ignore_nosub": True}
    try:
        paths = mne_bids.find_matching_paths(folder, **options)
    except Exception as error:  # a name that only looks like BIDS
        raise MtkdError(f"{folder}: no BIDS data set ({one_line(error)})") from None
    _refuse_links(folder, data)
    if not paths:
        raise MtkdError(f"{folder}: no BIDS data set: no sub-*/**/eeg/*_eeg of {', '.join(_EXTENSIONS)}")
    for key, asked, found in (
        ("task", [data.task] if data.task else [], {str(path.task) for path in paths}),
        ("sessions", data.sessions or [], {path.session for path in paths} - {None}),
    ):
        for name in asked:
            if name not in found:
                raise MtkdError(
                    f"{folder}: no recording of {name!r}, which data.{key} names; there are {_listed(found)}"
                )
    paths = [path for path in paths if data.sessions is None or path.session in data.sessions]
    tasks = sorted({str(path.task) for path in paths})
    if data.task is None and len(tasks) > 1:
        raise MtkdError(f"{folder}: holds the tasks {', '.join(tasks)}; data.task chooses one")
    return sorted((path for path in paths if data.task in (None, path.task)), key=lambda path: str(path.fpath))


def _refuse_links(folder: Path, data: Bids) -> None:
    """Refuse recordings of the study that git-annex has not fetched: mne-bids passes over them."""
    for place in folder.glob("sub-*/**/eeg/*_eeg.*"):
        if place.suffix in _EXTENSIONS and _is_asked_for(place, data):
            is_there(place)


def _passed_over(folder: Path, data: Bids, taken: Collection[str]) -> dict[str, str]:
    """What lies where the study's recordings do, and is not called as BIDS calls them or in none of its formats."""
    found = {}
    for place in sorted(folder.glob("sub-*/**/*")):
        is_eeg = place.parent.name.lower() == "eeg" and place.name.lower().endswith(_RECORDINGS)
        if is_eeg and place.name not in taken and _is_asked_for(place, data):
            found[place.name] = f"not called as BIDS calls EEG: sub-*/[ses-*/]eeg/sub-*_task-*_eeg and {_FORMATS}"
    for place in sorted(folder.glob("sub-*/")):
        subject = place.name.removeprefix("sub-")
        if data.takes(subject) and not any(name.startswith(f"{place.name}_") for name in (*taken, *found)):
            found[place.name] = "no EEG of the study is in it"
    return found


def _is_asked_for(place: Path, data: Bids) -> bool:
    """Whether a file may be, by its name, a recording of the study's subjects, task and sessions."""
    said = dict(part.split("-", 1) for part in place.name.partition(".")[0].split("_") if "-" in part)
    asked = data.task in (None, said.get("task")) and (data.sessions is None or said.get("ses") in data.sessions)
    return asked and data.takes(said.get("sub", ""))


def _file(folder: Path, main: Path, subject: str, trials: list[dict[str, Any]]) -> File:
    channels = nearest(main, folder, "channels.tsv")
    kinds, units, bads = _channels(channels) if channels else ({}, {}, [])
    physio = tables_of(main, folder)
    length_s = description(main, folder, "eeg.json").get("RecordingDuration")
    rows = {"trials": trials, "channels": kinds, "units": units, "bads": bads, "physio": physio, "length_s": length_s}
    paths = (*all_of(main), *(main.with_name(table) for table in physio))
    return File(main.stem.rpartition("_")[0], subject, paths, rows)


def read(file: File, data: Bids) -> Iterator[Recording]:
    """One recording with the trials of its events.

    Raises:
        MtkdError: the file is damaged or cut, or a channel is typed nowhere.
    """
    streams = _streams(file, data)
    if file.rows["physio"]:
        rows, duration_s = described(file.path)
        streams = _with_tables(file, data, streams, rows, duration_s)
    else:
        duration_s = min(stream.n_times / stream.sfreq for stream in streams.values())
    said_s = file.rows["length_s"]
    if isinstance(said_s, float | int) and duration_s < said_s * (1 - _SHORTER) - _SHORTER_S:
        raise MtkdError(f"{file.path}: truncated, it lasts {duration_s:g} s, and by its eeg.json {said_s:g} s")
    spans, rejected = _spans(file.rows["trials"], duration_s)
    yield Recording(file.subject, str(file.path), streams, spans, rejected)


def _with_tables(
    file: File, data: Bids, streams: dict[Modality, Stream], rows: Collection[str], duration_s: float
) -> dict[Modality, Stream]:
    """The file's own streams and those of its tables. A key that names a channel of either is heard."""
    columns = {name for table in file.rows["physio"].values() for name in table["Columns"]}
    columns |= {data.rename[name] for name in columns & data.rename.keys()}
    heard = {f"data.{key}: {name}" for key in ("rename", "units") for name in columns}
    unheard = names_of(file.path, rows, data, {}, {}).unheard - heard
    found = dict(streams)
    for table, about in file.rows["physio"].items():
        beside = read_physio(file.path.with_name(table), about, data, duration_s)
        if both := sorted(beside.keys() & found.keys()):
            raise MtkdError(
                f"{file.path.with_name(table)}: has {both[0]}, as its EEG's file or another table has; "
                "data.channels leaves one out ({COLUMN: ignore})"
            )
        found |= beside
    if not found:
        raise MtkdError(f"{file.path}: neither it nor a table beside it has a channel that the study asks for")
    return {kind: replace(stream, unheard=unheard) for kind, stream in found.items()}


def _streams(file: File, data: Bids) -> dict[Modality, Stream]:
    """Those of the EEG's file, by what ``channels.tsv`` says of it."""
    kinds, units, bads = _in_file(file.path, file.rows["channels"], file.rows["units"], file.rows["bads"])
    ours = {name: data.rename.get(name, name) for name in kinds}
    said = {glob.escape(ours[name]): kind for name, kind in kinds.items()}
    theirs = {name: own for own, name in ours.items()}
    corrected = {theirs.get(name, name): unit for name, unit in data.units.items()}
    own = data.model_copy(update={"units": {**_missing(file.path, kinds, units), **corrected, **data.units}})
    left_out = {ours[name]: _BAD for name in bads}
    needed = not file.rows["physio"]  # what another device recorded may be all that anybody asks for
    return read_streams(file.path, own, {**said, "Status": "ignore"}, {}, left_out, needed=needed)


def _spans(rows: list[dict[str, Any]], duration_s: float) -> tuple[list[Span], dict[str, str]]:
    """Trials that the recording holds, and why it does not hold the others."""
    spans: dict[tuple[float, float], Span] = {}
    rejected = {}
    for row in rows:
        start_s, stop_s = row["start_s"], row["stop_s"]
        if start_s is None or stop_s is None:
            rejected[row["name"]] = "its event does not tell when it begins or how long it lasts"
        elif not 0 <= start_s < stop_s <= duration_s + 1e-6:
            rejected[row["name"]] = f"from {start_s} s to {stop_s} s, but the recording lasts {duration_s:g} s"
        elif (start_s, stop_s) in spans:
            same = spans[start_s, stop_s].name
            rejected[row["name"]] = f"lies where {same} does; data.trial_types chooses one of them"
        else:
            spans[start_s, stop_s] = Span(row["name"], row["stimulus"], start_s, stop_s, row["ratings"])
    return list(spans.values()), rejected


def _listed(types: set[str]) -> str:
    return ", ".join(sorted(types)[:20]) + ", ..." * (len(types) > 20)


def _trials(events: Path, path: Any, data: Bids, types: set[str]) -> list[dict[str, Any]]:
    """The rows that are trials, each with where it starts and stops (None: not told). ``types`` gets all there are."""
    needed = ("onset", "duration") if data.trial_types is None else ("onset", "duration", data.type_column)
    trials: list[dict[str, Any]] = []
    for line, row in read_rows(events, "\t", needed).items():
        where = f"line {line}"
        types.add(row.get(data.type_column, ""))
        start_s, length_s = (number(events, row, name, where) for name in ("onset", "duration"))
        is_trial = bool(length_s) if data.trial_types is None else row[data.type_column] in data.trial_types
        if not is_trial:
            continue
        if data.stimulus is not None and data.stimulus not in row:
            raise MtkdError(f"{events}: has no column {data.stimulus!r}, which data.stimulus names")
        name = f"{path.basename.rpartition('_')[0].partition('_')[2]}-{len(trials) + 1}"
        trials.append(
            {
                "name": name,
                "stimulus": row[data.stimulus] if data.stimulus else row.get(data.type_column, name),
                "start_s": start_s,
                "stop_s": None if start_s is None or length_s is None else start_s + length_s,
                "ratings": ratings(events, row, data.rated, where),
            }
        )
    return trials


def _channels(path: Path) -> tuple[dict[str, Kind], dict[str, str], list[str]]:
    """Kinds and units, and which are bad."""
    rows = read_rows(path, "\t", ("name", "type")).values()
    counts = Counter(row["name"] for row in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise MtkdError(f"{path}: two rows are of the channel {twice[0]!r}")
    kinds: dict[str, Kind] = {row["name"]: _KINDS.get(row["type"].upper(), "ignore") for row in rows}
    units = {row["name"]: row.get("units", "").replace("μ", "u").replace("µ", "u") for row in rows}
    bads = [row["name"] for row in rows if row.get("status", "").lower() == "bad"]
    return kinds, {name: unit for name, unit in units.items() if unit not in ABSENT}, bads


def _in_file(
    path: Path, kinds: dict[str, Kind], units: dict[str, str], bads: list[str]
) -> tuple[dict[str, Kind], dict[str, str], list[str]]:
    """The three by the names that the file itself has: EDF+ puts the signal's type before an electrode's name.

    Only EDF and BDF have other names than the table. One that is bad and not there is left out.
    """
    if path.suffix.lower() not in {".edf", ".bdf"} or not path.is_file():
        return kinds, units, bads
    has = set(units_in(path))
    alike: dict[str, list[str]] = {}
    for own in has:
        alike.setdefault(plain_name(own), []).append(own)

    def theirs(name: str) -> str:
        found = alike.get(plain_name(name), [])
        return found[0] if name not in has and len(found) == 1 else name

    by_kind = {theirs(name): kind for name, kind in kinds.items()}
    by_unit = {theirs(name): unit for name, unit in units.items()}
    return by_kind, by_unit, [theirs(name) for name in bads if theirs(name) in has]


def beside(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the ``channels.tsv`` of a file tells: units of the channels of which it tells none, and of no use which."""
    table = nearest(path, root_of(path), "channels.tsv")
    if table is None:
        return {}, {}
    kinds, units, bads = _in_file(path, *_channels(table))
    return _missing(path, kinds, units), dict.fromkeys(bads, _BAD)


def _missing(path: Path, kinds: dict[str, Kind], units: dict[str, str]) -> dict[str, str]:
    if path.suffix.lower() == ".set":
        return {name: unit for name, unit in units.items() if kinds[name] in {"eda", "temp"}}
    if not path.is_file():
        return {}
    return {name: units[name] for name, unit in units_in(path).items() if not unit and name in units}
