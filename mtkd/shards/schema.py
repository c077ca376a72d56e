"""What a shard holds: a sample is a trial, written as the members of one WebDataset key.

=====================  =========================  ==================================================================
member                 dtype, shape               meaning
=====================  =========================  ==================================================================
``MODALITY.npy``       float32 (n_chans, n_times)  the signal in SI units, 0 where it is not valid
``MODALITY.valid.npy``  bool (n_chans, n_secs)      whether a channel gave a signal in each started second
``eeg.de.npy``         float32 (n_chans, n_bands,  differential entropy in nats, with ``signals.entropy``
                       n_windows)
``meta.json``          JSON                       key, subject, stimulus, duration_s, ratings, channels and rates
=====================  =========================  ==================================================================

``data_shards/README.md`` says the same for people who open a tar by hand.
"""

import functools
import io
import json
import math
from dataclasses import replace
from typing import Annotated

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mtkd.config import Entropy, Modality
from mtkd.signals.entropy import differential_entropy
from mtkd.signals.preprocess import Signal, lasts_s
from mtkd.signals.recording import Span
from mtkd.signals.windows import n_samples

ENTROPY = "eeg.de.npy"
Text = Annotated[str, Field(pattern=r"\A[^\x00-\x1f\x7f-\x9f]+\z")]
"""What terminals show, and do not obey."""


class Layout(BaseModel):
    """Channels and rate of one modality, hertz."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    ch_names: list[Text] = Field(min_length=1, max_length=4096)
    sfreq: float = Field(gt=0, le=1e6)

    @field_validator("ch_names")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("names a channel twice")
        return names


class SampleInfo(BaseModel):
    """What is known of a trial without reading its signals.

    ``valid`` is the share of a modality's channels and seconds with a signal, rounded down: 1 means all of them.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)
    key: str = Field(pattern=r"\A[^\x00-\x1f./\\]+\z", max_length=1024)
    subject: Text
    stimulus: str
    duration_s: float = Field(gt=0, le=1e8)
    ratings: dict[Text, float]
    modalities: dict[Modality, Layout] = Field(min_length=1)
    valid: dict[Modality, Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _valid_of_each(self) -> "SampleInfo":
        if self.valid.keys() != self.modalities.keys():
            raise ValueError("valid and modalities are not of the same modalities")
        return self


def sample_key(subject: str, trial: str) -> str:
    """A trial's key. Dots would end a WebDataset key, slashes leave the folder."""
    return "_".join("".join(char if char.isalnum() else "-" for char in part) for part in (subject, trial))


def encode(
    subject: str, span: Span, signals: dict[Modality, Signal], entropy: Entropy | None = None
) -> tuple[SampleInfo, dict[str, bytes]]:
    """A trial as the bytes of its members, the differential entropy of its EEG among them where it is asked for.

    It lasts as ``preprocess`` cut it, or as long as its shortest signal does where that is less.
    """
    held_s = min(signal.data.shape[1] / signal.sfreq for signal in signals.values())
    duration_s = min(held_s, lasts_s(span, [signal.sfreq for signal in signals.values()]))
    signals = {name: _until(signal, duration_s) for name, signal in signals.items()}
    info = SampleInfo(
        key=sample_key(subject, span.name),
        subject=subject,
        stimulus=span.stimulus,
        duration_s=duration_s,
        ratings=span.ratings,
        modalities={name: Layout(ch_names=signal.ch_names, sfreq=signal.sfreq) for name, signal in signals.items()},
        valid={name: valid_share(signal.valid) for name, signal in signals.items()},
    )
    members = {}
    for modality, signal in signals.items():
        members[f"{modality}.npy"] = encode_array(signal.data)
        members[f"{modality}.valid.npy"] = encode_array(signal.valid)
    if entropy is not None and "eeg" in signals:
        eeg = signals["eeg"]
        members[ENTROPY] = encode_array(differential_entropy(eeg.data, eeg.sfreq, duration_s, entropy))
    members["meta.json"] = json.dumps(info.model_dump()).encode()
    return info, members


def _until(signal: Signal, stop_s: float) -> Signal:
    """Its samples before ``stop_s``, and the seconds that these begin."""
    n_times = n_samples(stop_s, signal.sfreq)
    if n_times >= signal.data.shape[1]:
        return signal
    n_secs = math.ceil(n_times / signal.sfreq - 1e-9)
    return replace(signal, data=signal.data[:, :n_times], valid=signal.valid[:, :n_secs])


def valid_share(valid: Bool[np.ndarray, "n_chans n_secs"]) -> float:
    """That of the seconds with a signal, rounded down: 1 are all of them."""
    return math.floor(valid.mean() * 1e4) / 1e4


def encode_array(array: np.ndarray) -> bytes:
    """An array as the bytes of a ``.npy`` file.

    Raises:
        ValueError: it holds objects.
    """
    if array.dtype.hasobject:
        raise ValueError("Object arrays are not written")
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return b"".join([_head_of(array.shape, array.dtype), content.data])


@functools.lru_cache(maxsize=4096)
def _head_of(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What stands before the samples."""
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def decode_array(content: bytes | memoryview) -> np.ndarray:
    """A read-only array over the bytes of a ``.npy`` file, without copying them.

    Raises:
        ValueError: they are no plain, C-ordered array.
    """
    size = 10 + int.from_bytes(content[8:10], "little")  # format 1.0: magic, version, length of the header
    shape, dtype = _header(bytes(content[:size]))
    return np.frombuffer(content, dtype, offset=size).reshape(shape)


def check_array(sample: SampleInfo, member: str, array: np.ndarray) -> None:
    """Make sure that an array is what its member must be, for a set may come from anywhere.

    Raises:
        ValueError: its type, its shape or its values are not.
    """
    kinds = {"npy": (np.float32, 2), "valid.npy": (np.bool_, 2), "de.npy": (np.float32, 3)}
    modality, _, ending = member.partition(".")
    if modality not in sample.modalities or ending not in kinds:
        return
    layout, (dtype, n_dims) = sample.modalities[modality], kinds[ending]
    n_chans = len(layout.ch_names)
    if array.dtype != dtype or array.ndim != n_dims or len(array) != n_chans:
        raise ValueError(f"{array.dtype} of shape {array.shape} for {n_chans} channels")
    rate = {"npy": layout.sfreq, "valid.npy": 1.0}.get(ending)  # each is rounded up to samples of its own
    most = {"npy": 1.0, "valid.npy": 1.0 + 1.0 / layout.sfreq}.get(ending, 0.0)
    if rate is not None and not -1e-5 <= array.shape[1] - sample.duration_s * rate <= most:
        raise ValueError(f"shape {array.shape} for {sample.duration_s:g} s at {rate:g} Hz")
    if ending == "valid.npy" and valid_share(array) != sample.valid[modality]:
        raise ValueError(f"{valid_share(array):.2%} of it valid, and {sample.valid[modality]:.2%} by the index")
    if dtype == np.float32 and not np.isfinite(array).all():
        raise ValueError("values that are not finite")


@functools.lru_cache(maxsize=4096)
def _header(head: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Trials of one length share their headers, and parsing one costs more than reading its array."""
    file = io.BytesIO(head)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not format 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ValueError("not a plain C-ordered array")
    return shape, dtype
