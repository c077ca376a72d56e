"""Opening files of MNE's many formats: what their numbers mean, and that nothing but themselves is read."""

import math
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
from mne._fiff.constants import FIFF

from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import TO_VOLT, VOLTS
from mtkd.signals.readers.companions import all_of
from mtkd.signals.readers.edf_header import ANNOTATIONS, Header, Signal
from mtkd.signals.readers.whole import refuse_cut

_EDF = (".edf", ".bdf")
_BRAINVISION = {**TO_VOLT, "uS": 1e-6, "µS": 1e-6}
"""What MNE multiplies BrainVision's numbers with; those in another unit it leaves alone."""
_CHANNEL = re.compile(r"^[ \t]*ch(\d+)\s*[=:](.*)$", re.MULTILINE | re.IGNORECASE)
_SECTION = re.compile(r"^[ \t]*\[Channel Infos\](.*?)(?=^[ \t]*\[|\Z)", re.MULTILINE | re.IGNORECASE | re.DOTALL)
_N_CHANNELS = re.compile(rb"^[ \t]*NumberOfChannels[ \t]*[=:][ \t]*(\d+)", re.MULTILINE | re.IGNORECASE)
_MOST_CHANNELS = 4096
_TRIGGERS = {"statu", "trigger", "trig", "stim", "sti", "marker", "event", "photic"}
"""What triggers are called, in any number."""
_BAD = re.compile(r"bad(?![a-z])", re.IGNORECASE)
_JOINT = re.compile(r"new segment.*|((bad|edge)[ _])?boundary|-99(\.0)?", re.IGNORECASE | re.DOTALL)
"""What joints are called: by BrainVision, by MNE itself, by EEGLAB, and by EEGLAB where its events are numbers."""
_TWINS = re.compile(r"found duplicates for: \{(?:np\.str_\()?('[^']*'|\"[^\"]*\")")
"""How MNE warns of channels that it numbers."""
_MASKED = {"status", "trigger"}
"""What MNE's readers of EDF, BDF and GDF take for triggers, in any letters: their numbers, masked, and in no unit."""
_SECONDS, _BYTES_A_SECOND, _MEMORY = 30, 2e7, 4 * 2**30
_PROBE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
import mne
try:
    mne.io.read_raw(sys.argv[1], preload=False, verbose="error")
except BaseException as error:
    print(type(error).__name__, "-", *str(error).split())
    sys.exit(1)
"""


@dataclass(frozen=True)
class Row:
    """A channel as its file has it: unit (None: SI, as the format demands), what MNE multiplied with, hertz.

    ``kind`` is what the file says it is, in MNE's words; ``eeg`` also where it says nothing. ``is_volts`` tells of one
    without a unit that MNE takes it for a voltage, ``is_masked`` of one that MNE reads as triggers, which no signal is.
    """

    unit: str | None
    scale: float
    sfreq: float
    kind: str = "eeg"
    is_volts: bool = False
    is_masked: bool = False

    @property
    def si_unit(self) -> str:
        """The unit of what MNE gives of one that has a unit: still its own, where MNE did not know it."""
        if self.scale == 1:
            return str(self.unit)
        return "V" if self.unit in TO_VOLT else "S"


def rows_of_header(header: Header) -> dict[str, Row]:
    """The channels of an EDF or BDF."""
    return {each.name: _row(header, each) for each in header.signals if each.name not in ANNOTATIONS}


def _row(header: Header, channel: Signal) -> Row:
    scale, masked = VOLTS.get(channel.unit, 1.0), channel.name.lower() in _MASKED
    return Row(channel.unit, scale, header.sfreq(channel), _kind_of(channel.name), is_masked=masked)


def _kind_of(name: str) -> str:
    """What an EDF's or BDF's channel is by its name, which alone tells triggers there."""
    return "stim" if name.lower().rstrip("s0123456789 ") in _TRIGGERS else "eeg"


def rows_of_raw(path: Path, raw: mne.io.BaseRaw) -> dict[str, Row]:
    """Those of a file in another format. EEGLAB's are all microvolt to MNE, whatever they are.

    Raises:
        MtkdError: a channel is of no kind that MNE knows.
    """
    sfreq, suffix = float(raw.info["sfreq"]), path.suffix.lower()
    units = _brainvision_units(path) if suffix == ".vhdr" else {}
    try:
        kinds = raw.get_channel_types()
    except ValueError as error:
        raise MtkdError(f"{path}: damaged or foreign file ({one_line(error)})") from None
    found = {}
    for index, (name, kind) in enumerate(zip(raw.ch_names, kinds, strict=True)):
        if suffix == ".vhdr":
            found[name] = Row(*units.get(index, ("", 1.0)), sfreq, kind)
        elif suffix == ".set":
            found[name] = Row("uV", 1e-6, sfreq, kind)
        else:
            is_volts, is_masked = raw.info["chs"][index]["unit"] == FIFF.FIFF_UNIT_V, name.lower() in _MASKED
            found[name] = Row(None, 1.0, sfreq, kind, is_volts, is_masked and suffix == ".gdf")
    return found


def breaks(raw: mne.io.BaseRaw) -> list[tuple[int, int]]:
    """Samples that are none, from the first to before the last: gaps that MNE fills with zeros, as FIF marks them, and
    the two beside a joint of BrainVision's segments, of what EEGLAB cut, or of what MNE put together.
    """
    notes, found = raw.annotations, []
    for onset_s, duration_s, said in zip(notes.onset, notes.duration, notes.description, strict=True):
        start_s = onset_s - raw.first_time  # a recording that was cropped keeps its times
        first, last = (edge_s * raw.info["sfreq"] for edge_s in (start_s, start_s + duration_s))
        blur = float(np.spacing(np.float32(abs(onset_s)))) * raw.info["sfreq"]  # FIF writes times in single precision
        if said.startswith("BAD_ACQ_SKIP"):
            found.append((round(first), round(last)))
        elif first > blur and _JOINT.fullmatch(said.strip()):
            after = math.ceil(first - blur)  # EEGLAB's joints lie between two samples, others on the second of them
            found.append((after - 1, max(after, math.floor(first + blur)) + 1))
    return found


@dataclass(frozen=True)
class Bad:
    """Samples, from the first to before the last, that an annotation calls bad: of those channels, or of all."""

    first: int
    last: int
    ch_names: tuple[str, ...]
    said: str


def bads(raw: mne.io.BaseRaw, ch_names: Sequence[str]) -> list[Bad]:
    """What begins with the word BAD, as MNE leaves it out by ``reject_by_annotation``. Gaps and joints are ``breaks``.

    MNE leaves out what begins with its letters, too, and with that every stimulus by the name of a badger.
    ``ch_names`` are all of the file, also those that MNE was told not to open. What is bad of none of them is of all.
    """
    notes, found = raw.annotations, []
    rows = zip(notes.onset, notes.duration, notes.description, notes.ch_names, strict=True)
    for onset_s, duration_s, text, of in rows:
        # an EDF names channels behind @@, which MNE leaves there for those that it was told not to open
        said, _, named = text.partition("@@")
        edges = np.array([0.0, duration_s]) + onset_s - raw.first_time
        first, last = np.clip(np.round(edges * raw.info["sfreq"]), 0, raw.n_times).astype(int).tolist()
        if _BAD.match(said) and not said.startswith("BAD_ACQ_SKIP") and first < last:
            those = {*of, *_named(named, ch_names)}
            found.append(Bad(first, last, tuple(each for each in ch_names if each in those), said if those else text))
    return found


def _named(said: str, ch_names: Sequence[str]) -> set[str]:
    """The channels of an EDF that an annotation names: one, or several with commas between them.

    Their labels may have a type before the name ("RESP belt") that the annotation does without, and the other way
    round, and another case.
    """

    def alike(name: str) -> set[str]:
        return {each for each in ch_names if _spellings(name) & _spellings(each)}

    return {said} & set(ch_names) - {""} or alike(said) or set().union(*map(alike, said.split(",")))


def _spellings(name: str) -> set[str]:
    """Of a channel's name, with and without the type before it."""
    return {name.casefold(), name.partition(" ")[2].casefold()} - {""}


def _brainvision_units(path: Path) -> dict[int, tuple[str, float]]:
    """Units by the channel's number, with what MNE multiplies with, which knows none that has a blank before it.

    They are microvolt where the header leaves them out, and none where it says there is none.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    found: dict[int, tuple[str, float]] = {}
    (section,) = _SECTION.findall(text)[:1] or [""]
    for number, line in _CHANNEL.findall(section):  # other sections have lines of the same names
        parts = line.strip().split(",")
        said = (parts[3].replace("Â", "") if len(parts) > 3 else "") or "µV"
        unit = said.strip() or "µV"
        found.setdefault(int(number) - 1, ("" if unit == "n/a" else unit, _BRAINVISION.get(said, 1.0)))
    return found


def open_raw(path: Path, include: list[str] | None = None) -> mne.io.BaseRaw:
    """A file as MNE opens it, of EDF and BDF those channels only.

    Raises:
        MtkdError: MNE cannot read it, reads another file for it that does not lie beside it, or numbers channels of one
            name in a format other than EDF and BDF, of which the header tells.
    """
    suffix = path.suffix.lower()
    if suffix == ".vhdr":
        _refuse_many(path)
    elif suffix not in _EDF:
        _probe(path)
    try:
        if include is not None:
            read = mne.io.read_raw_bdf if suffix == ".bdf" else mne.io.read_raw_edf
            return read(path, include=include, preload=False, verbose="error")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="warning")
    except Exception as error:  # MNE's readers raise nearly anything on foreign bytes
        raise MtkdError(f"{path}: not readable by MNE ({type(error).__name__}: {one_line(error)})") from None
    if twins := next(filter(None, (_TWINS.search(str(each.message)) for each in warned)), None):
        raise MtkdError(f"{path}: two channels share a name, {twins[1]}")
    own = {other.resolve() for other in all_of(path)}
    for name in filter(None, raw.filenames):
        if Path(name).resolve() not in own:
            raise MtkdError(f"{path}: its samples are in {name}, which is not beside it under a name of its own")
    refuse_cut(path, raw)
    return raw


def _refuse_many(path: Path) -> None:
    """MNE makes room for as many channels as a header says there are."""
    for number in _N_CHANNELS.findall(path.read_bytes()):
        if len(number) > 9 or int(number) > _MOST_CHANNELS:
            raise MtkdError(f"{path}: tells of more than {_MOST_CHANNELS} channels")


def _probe(path: Path) -> None:
    """Have another process open a file first: damaged ones make SciPy crash, or MNE go on for ever."""
    size = path.stat().st_size
    command = [sys.executable, "-P", "-c", _PROBE, str(path), str(_MEMORY + 16 * size)]
    limit = _SECONDS + size / _BYTES_A_SECOND
    # a machine of many cores would spend the memory on the stacks of threads that have nothing to do
    alone = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env={**os.environ, **alone})
    except subprocess.TimeoutExpired:
        raise MtkdError(f"{path}: damaged or foreign file, MNE comes to no end with it") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise MtkdError(f"{path}: damaged or foreign file, MNE's reader crashes on it ({name})")
    if done.returncode:
        told = " ".join((done.stdout or done.stderr[-200:]).split())
        header = f"; {path.with_suffix('.vhdr').name} is to be named" if path.with_suffix(".vhdr").is_file() else ""
        raise MtkdError(f"{path}: not readable by MNE ({told}){header}")
