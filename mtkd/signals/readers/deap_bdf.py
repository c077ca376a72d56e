"""DEAP's original sessions, ``sNN.bdf``: BioSemi, 512 Hz, 40 videos of a minute in one file.

Participants 1 to 22 were recorded at Twente, 23 to 32 at Geneva: the order of their electrodes differs, and so does
what the Status channel holds above its lowest byte; in that byte 4 is the start of a video at both. From
participant 24 on, Status has no name. The n-th video of a file is the n-th trial of its participant in
``participant_ratings.csv``, which tells the video's own number, by which the preprocessed files are ordered. Where a
mark is missing, the times in that table tell which.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtkd.config import Deap, Kind, Modality
from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA
from mtkd.signals.readers.biosemi import read_session
from mtkd.signals.readers.deap_ratings import TABLE, named
from mtkd.signals.readers.edf_header import Header, read_header
from mtkd.signals.recording import File, Recording, Span, Stream

VIDEO = 4
VIDEO_S = 60.0
BIPOLAR = {"hEOG": ["EXG1", "EXG2"], "vEOG": ["EXG3", "EXG4"], "zEMG": ["EXG5", "EXG6"], "tEMG": ["EXG7", "EXG8"]}
_OWN: dict[str, Kind] = {
    **dict.fromkeys(GENEVA, "eeg"),
    "?EOG": "eog",
    "?EMG": "emg",
    "GSR": "eda",
    "Resp": "resp",
    "Plet": "ppg",
    "Temp": "temp",
    **dict.fromkeys(("GSR2", "Erg[12]", "EXG?", "Status", ""), "ignore"),
}
_CLOCK_S = 20.0
"""So much may the two clocks differ over a session, whose videos are more than a minute apart."""


def read(file: File, data: Deap) -> Recording:
    """The session with a trial for each video.

    Raises:
        MtkdError: the file is damaged, or its Status does not go with the table.
    """
    header = read_header(file.path)
    starts = video_starts(header)
    rows = file.rows
    if len(starts) > len(rows):
        raise MtkdError(f"{file.path}: its Status marks {len(starts)} videos, but {TABLE} knows {len(rows)}")
    streams = read_session(file.path, data, BIPOLAR, _OWN)
    duration_s = min(stream.n_times / stream.sfreq for stream in streams.values())
    shown = _shown(file.path, starts, rows)
    spans, rejected = [], {named(r["video"])[0]: "its Status marks no start" for r in rows if r not in shown}
    for start_s, row in zip(starts, shown, strict=True):
        name, stimulus = named(row["video"])
        if start_s + VIDEO_S > duration_s + 1e-6:
            rejected[name] = f"the file ends {duration_s - start_s:.0f} s after its start"
        else:
            spans.append(Span(name, stimulus, start_s, start_s + VIDEO_S, row["ratings"]))
    return Recording(file.subject, str(file.path), _in_order(streams), spans, rejected)


def _shown(path: Path, starts: list[float], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The row of each start, by their order and the times that the experiment logged.

    Raises:
        MtkdError: starts overlap or do not go with those times, or there are fewer than rows and nothing tells which.
    """
    if (np.diff(starts) < VIDEO_S - 1e-6).any():
        raise MtkdError(f"{path}: its Status marks videos less than {VIDEO_S:g} s apart")
    said = f"{path}: its Status marks {len(starts)} videos of {len(rows)}"
    logged = np.array([row["start_s"] for row in rows], float)  # NaN where there is none
    if not (np.diff(logged) > 0).all() or np.isnan(logged).any():
        if len(starts) == len(rows):
            return rows
        raise MtkdError(f"{said}, and {TABLE} has no Start_time to tell which")
    found = set()
    for first in range(len(rows) - len(starts) + 1):  # the clock of the file is not that of the experiment
        times = logged - logged[first] + starts[0]
        nearest = np.abs(times[None] - np.array(starts)[:, None])
        chosen = nearest.argmin(axis=1)
        if nearest.min(axis=1).max() < _CLOCK_S and (np.diff(chosen) > 0).all():
            found.add(tuple(chosen.tolist()))
    if len(found) != 1:
        raise MtkdError(f"{said}, and the Start_times of {TABLE} leave {len(found)} possibilities which")
    return [rows[index] for index in found.pop()]


def video_starts(header: Header) -> list[float]:
    """When a video starts, in seconds, by the lowest byte of the Status channel.

    Raises:
        MtkdError: there is no such channel, or it marks none.
    """
    last = [i for i, signal in enumerate(header.signals) if signal.name.lower() == "status" or not signal.name]
    if not last:
        raise MtkdError(f"{header.path}: has no Status channel, so nothing tells where its trials start")
    codes = header.low_bytes(last[-1])
    starts = np.flatnonzero((codes[1:] == VIDEO) & (codes[:-1] != VIDEO)) + 1
    if not len(starts):
        raise MtkdError(f"{header.path}: its Status channel marks the start of no video (code {VIDEO})")
    return (starts / header.sfreq(header.signals[last[-1]])).tolist()


def _in_order(streams: dict[Modality, Stream]) -> dict[Modality, Stream]:
    """Electrodes in the order of the preprocessed files, whatever that of the site is."""
    eeg = streams.get("eeg")
    if eeg is None or set(eeg.ch_names) != set(GENEVA):
        return streams
    place = [eeg.ch_names.index(name) for name in GENEVA]
    read = eeg.read
    return {**streams, "eeg": replace(eeg, ch_names=list(GENEVA), read=lambda a, b: read(a, b)[place])}
