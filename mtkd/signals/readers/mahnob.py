"""MAHNOB-HCI (Soleymani et al., IEEE Trans. Affective Computing 2012): ``Sessions/N/`` with a BDF and ``session.xml``.

A session is a trial. Its file holds half a minute before and after the film, whose two ends Status marks. Sessions
without a film or without felt ratings are left out.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from mtkd.config import Kind, Mahnob
from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import GENEVA
from mtkd.signals.readers.biosemi import read_session
from mtkd.signals.readers.columns import parsed
from mtkd.signals.readers.edf_header import Header, read_header
from mtkd.signals.recording import File, Found, Recording, Span

FELT = {
    "valence": ("feltVlnc", 1, 9),
    "arousal": ("feltArsl", 1, 9),
    "control": ("feltCtrl", 1, 9),
    "predictability": ("feltPred", 1, 9),
    "emotion": ("feltEmo", 0, 12),
}
"""Attributes of ``session.xml``, and from where to where they go. Emotions: 0 neutral, 1 anger, 2 disgust, 3 fear,
4 joy, 5 sadness, 6 surprise, 7 scream, 8 bored, 9 sleepy, 10 unknown, 11 amusement, 12 anxiety."""
BIPOLAR = {"ECG1": ["EXG2", "EXG1"], "ECG2": ["EXG3", "EXG1"]}
"""Leads I and II: EXG1 lies under the right clavicle, EXG2 under the left, EXG3 on the left of the abdomen."""
_OWN: dict[str, Kind] = {
    **dict.fromkeys(GENEVA, "eeg"),
    "ECG[12]": "ecg",
    "GSR": "eda",
    "Resp": "resp",
    "Temp": "temp",
    **dict.fromkeys(("GSR2", "Erg[12]", "EXG?", "Status", ""), "ignore"),
}
_FILE = re.compile(r"Part_\d+_(?P<kind>[SN])_Trial\d+_emotion\.bdf")
_XML_BYTES = 2**20
_LONGEST = 255


def find(folder: Path, data: Mahnob) -> Found:
    """The sessions of the folder that show a film and were rated.

    Raises:
        MtkdError: a ``session.xml`` is damaged, or a folder holds several recordings.
    """
    root = folder / "Sessions" if (folder / "Sessions").is_dir() else folder
    files, left_out = [], {}
    for place in sorted((path for path in root.iterdir() if path.is_dir()), key=_by_number):
        recordings = [path for path in sorted(place.iterdir()) if _FILE.fullmatch(path.name)]
        if len(recordings) > 1:
            raise MtkdError(f"{place}: holds {len(recordings)} recordings of one session")
        if not recordings or not (place / "session.xml").is_file():
            left_out[place.name] = "no Part_*_emotion.bdf" if not recordings else "no session.xml"
            continue
        said = _session(place / "session.xml")
        if _FILE.fullmatch(recordings[0].name)["kind"] == "N" or said["isStim"] in ("0", "false"):  # type: ignore[index]
            left_out[place.name] = "shows no film"
        elif "arousal" not in said["ratings"]:
            left_out[place.name] = "was not rated"
        else:
            files.append(File(f"{said['subject']}_{place.name}", said["subject"], (recordings[0],), said))
    return Found(files, left_out)


def read(file: File, data: Mahnob) -> Iterator[Recording]:
    """A session as one recording with one trial, the film; none where Status does not tell when it was shown.

    Raises:
        MtkdError: the file is damaged.
    """
    header = read_header(file.path)
    streams = read_session(file.path, data, BIPOLAR, _OWN)
    marks = status_marks(header)
    name = f"session-{file.rows['session']}"
    if len(marks) != 2:
        rejected = {name: f"its Status marks {len(marks)} points, not the two ends of a film"}
        yield Recording(file.subject, str(file.path), streams, [], rejected)
        return
    span = Span(name, file.rows["stimulus"], marks[0], marks[1], file.rows["ratings"])
    yield Recording(file.subject, str(file.path), streams, [span])


def status_marks(header: Header) -> list[float]:
    """When the lowest byte of Status leaves zero, in seconds.

    Raises:
        MtkdError: there is no Status channel.
    """
    found = [i for i, signal in enumerate(header.signals) if signal.name.lower() == "status"]
    if not found:
        raise MtkdError(f"{header.path}: has no Status channel, so nothing tells when the film was shown")
    on = header.low_bytes(found[-1]) > 0
    starts = np.flatnonzero(on[1:] & ~on[:-1]) + 1
    return (starts / header.sfreq(header.signals[found[-1]])).tolist()


def _by_number(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isascii() and path.name.isdigit() else -1, path.name)


def _session(path: Path) -> dict[str, Any]:
    """What ``session.xml`` says: whose session it is, what was shown, and what was felt."""
    try:
        if path.stat().st_size > _XML_BYTES:
            raise MtkdError(f"{path}: larger than any session.xml, {path.stat().st_size} bytes")
        root = ElementTree.parse(path).getroot()
    except DefusedXmlException as error:
        raise MtkdError(f"{path}: refused, it defines entities or refers to other files ({one_line(error)})") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # unknown encodings, too
        raise MtkdError(f"{path}: no XML ({one_line(error)})") from None
    subjects = root.findall("subject")
    number = subjects[0].get("id", "") if len(subjects) == 1 else ""
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise MtkdError(f"{path}: names no subject by a number")
    stimulus = root.get("mediaFile") or f"cut-{root.get('cutNr', 'unknown')}"
    if len(stimulus) > _LONGEST:
        raise MtkdError(f"{path}: mediaFile has {len(stimulus)} characters, more than a file's name")
    return {
        "subject": str(int(number)),
        "session": path.parent.name,
        "stimulus": stimulus,
        "isStim": root.get("isStim", "1").strip().lower(),
        "ratings": {
            name: _rating(path, text, *limits) for name, (key, *limits) in FELT.items() if (text := root.get(key))
        },
    }


def _rating(path: Path, text: str, low: int, high: int) -> float:
    value = parsed(text)
    if not value.is_integer():
        raise MtkdError(f"{path}: a rating of {text!r}, which is no whole number")
    if not low <= value <= high:
        raise MtkdError(f"{path}: a rating of {value:g}, expected {low} to {high}")
    return value
