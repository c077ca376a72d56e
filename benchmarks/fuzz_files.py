"""A good file of each kind that is fuzzed, alone in a folder or with what belongs to it."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import edfio
import mne
import numpy as np
import scipy.io

from mtkd.shards.index import write_index
from mtkd.shards.schema import encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span
from mtkd.signals.simulated import dump_as_python2

SESSION = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<session sessionId="10" isStim="1" cutNr="1" cutLenSec="3.0" '
    'mediaFile="69.avi" feltEmo="4" feltArsl="3" feltVlnc="7" feltCtrl="5" feltPred="6"><subject id="1" '
    'gender="female"/><track type="Physiological" filename="Part_1_S_Trial1_emotion.bdf"/></session>\n'
)
BRAINVISION = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=a.eeg
MarkerFile=a.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=2
SamplingInterval=7812.5
[Binary Infos]
BinaryFormat=IEEE_FLOAT_32
[Channel Infos]
Ch1=Fp1,,1,uV
Ch2=Cz,,1,uV
"""


def deap(form: str, compressed: bool = False) -> Callable[[Path], Path]:
    """DEAP's arrays as a pickle of Python 2 or 3, or for MATLAB."""

    def write(folder: Path) -> Path:
        random = np.random.default_rng(0)
        data = 10 * random.normal(size=(2, 40, 256))
        data[:, 36] = 2e5
        arrays = {"labels": random.uniform(1, 9, (2, 4)), "data": data}
        path = folder / f"s01.{form}"
        if form == "dat":
            with path.open("wb") as file:
                dump_as_python2(arrays, file)
        elif form == "pickle":
            path = folder / "s01.dat"
            path.write_bytes(pickle.dumps(arrays, 4))
        else:
            scipy.io.savemat(path, arrays, do_compression=compressed)
        return path

    return write


def _signals(bdf: bool) -> list:
    made = edfio.BdfSignal if bdf else edfio.EdfSignal
    values = np.random.default_rng(0).uniform(-50, 50, 640)
    status = np.zeros(640)
    status[[100, 500]] = 16
    channels = {"Fp1": ("uV", values), "Cz": ("uV", values), "GSR1": ("Ohm", 1e5 + values)}
    channels |= {"Status": ("", status)} if bdf else {}
    return [
        made(row, 128, label=name, physical_dimension=unit, physical_range=(row.min() - 1, row.max() + 1))
        for name, (unit, row) in channels.items()
    ]


def edf(folder: Path) -> Path:
    """An EDF named by subject and condition."""
    edfio.Edf(_signals(False)).write(folder / "a_rest.edf")
    return folder / "a_rest.edf"


def session(folder: Path) -> Path:
    """MAHNOB-HCI's ``session.xml``, its BDF beside it."""
    place = folder / "Sessions" / "10"
    place.mkdir(parents=True)
    edfio.Bdf(_signals(True)).write(place / "Part_1_S_Trial1_emotion.bdf")
    (place / "session.xml").write_text(SESSION)
    return place / "session.xml"


def bdf(folder: Path) -> Path:
    """The same session's BDF."""
    return session(folder).with_name("Part_1_S_Trial1_emotion.bdf")


def table(folder: Path) -> Path:
    """A table of trials, with their file."""
    edf(folder)
    (folder / "trials.csv").write_text(
        "file,subject,start_s,stop_s,trial,valence,word\na_rest.edf,anna,0.5,2,t1,7,good\na_rest.edf,anna,,,t2,,bad\n"
    )
    return folder / "trials.csv"


def raw(suffix: str) -> Callable[[Path], Path]:
    """A recording in one of MNE's formats, with a table of its trial."""

    def write(folder: Path) -> Path:
        path = folder / f"a_raw{suffix}"
        (folder / "trials.csv").write_text(f"file,subject\n{path.name},anna\n")
        if suffix == ".fif":
            info = mne.create_info(["Fp1", "Cz"], 128.0, "eeg")
            mne.io.RawArray(1e-5 * np.ones((2, 640)), info, verbose="error").save(path, verbose="error")
        elif suffix == ".set":
            eeg = {name: [] for name in ("event", "urevent", "epoch", "icawinv", "icaweights", "icasphere")}
            eeg |= {
                "nbchan": 2.0,
                "srate": 128.0,
                "pnts": 640.0,
                "trials": 1.0,
                "xmin": 0.0,
                "xmax": 5.0,
                "setname": "x",
            }
            eeg |= {"data": np.ones((2, 640)), "chanlocs": np.array([("Fp1",), ("Cz",)], [("labels", object)])}
            scipy.io.savemat(path, {"EEG": eeg}, appendmat=False)
        else:
            path.write_text(BRAINVISION)
            (folder / "a.vmrk").write_text("Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\n")
            np.ones((640, 2), "<f4").tofile(folder / "a.eeg")
        return path

    return write


def bids(name: str) -> Callable[[Path], Path]:
    """One file of a BIDS data set, all others beside it."""

    def write(folder: Path) -> Path:
        place = folder / "sub-01" / "eeg"
        place.mkdir(parents=True)
        edfio.Edf(_signals(False)).write(place / "sub-01_task-x_eeg.edf")
        (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
        files = {
            "events.tsv": b"onset\tduration\ttrial_type\n1\t2\trest\n3\t1.5\ttask\n",
            "channels.tsv": b"name\ttype\tunits\nFp1\tEEG\tuV\nCz\tEEG\tuV\nGSR1\tGSR\tOhm\n",
            "physio.tsv.gz": gzip.compress(b"".join(b"%d\t%d\n" % (n, n * n) for n in range(160))),
            "physio.json": b'{"SamplingFrequency": 32, "StartTime": 0, "Columns": ["cardiac", "respiratory"]}',
        }
        for suffix, content in files.items():
            (place / f"sub-01_task-x_{suffix}").write_bytes(content)
        return place / f"sub-01_task-x_{name}"

    return write


def ratings(folder: Path) -> Path:
    """DEAP's table of ratings, with an original session."""
    deap("dat")(folder).unlink()
    codes = np.zeros(62 * 128, np.int32)
    codes[100] = 4
    values = np.random.default_rng(0).uniform(-50, 50, len(codes))
    signals = [edfio.BdfSignal(values, 128, label=name, physical_dimension="uV") for name in ("Fp1", "Cz")]
    span = (-8388608, 8388607)
    last = {"label": "Status", "physical_dimension": "Boolean", "physical_range": span, "digital_range": span}
    edfio.Bdf([*signals, edfio.BdfSignal.from_digital(codes, 128, **last)]).write(folder / "s01.bdf")
    columns = "Participant_id,Trial,Experiment_id,Start_time,Valence,Arousal,Dominance,Liking,Familiarity"
    (folder / "participant_ratings.csv").write_text(f"{columns}\n1,1,5,1695918,6.96,3.92,7.19,6.05,4\n")
    return folder / "participant_ratings.csv"


def shards(name: str) -> Callable[[Path], Path]:
    """One file of a shard set, the other beside it."""

    def write(folder: Path) -> Path:
        data = np.random.default_rng(0).normal(size=(2, 640)).astype(np.float32)
        trial = {"eeg": Signal(data, np.ones((2, 5), bool), 128.0, ["Fp1", "Cz"])}
        samples = (encode("a", Span(f"t{i}", "x", 0.0, 5.0, {"valence": 5.0}), trial) for i in range(2))
        write_index(folder, {"a.tar": write_shard(folder / "a.tar", samples)})
        return folder / name

    return write
