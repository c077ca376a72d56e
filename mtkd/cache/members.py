"""What a teacher says of a trial as a member of its shard, ``TEACHER.npy``: a structured array, a row a window.

==============  =============================  ================================================================
field           dtype, shape of a row          meaning
==============  =============================  ================================================================
``logits``      ``cache.dtype`` (n_classes,)
``features``    ``cache.dtype`` (n_features,)  what the heads read, or principal components of it
``confidence``  float32                        probability that it gives the true class, as the teacher believes
``mask``        bool                           whether it had any signal to answer from
==============  =============================  ================================================================

One member, since in a tar each costs a block for its head and another half for its end: with principal components more
than what it holds.
"""

import numpy as np

from mtkd.errors import MtkdError
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.index import Sample
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import SampleInfo, encode_array

PARTS = ("logits", "features", "confidence", "mask")


def member_of(teacher: str) -> str:
    """Its name."""
    return f"{teacher}.npy"


def _row(n_classes: int, n_features: int, dtype: np.dtype) -> np.dtype:
    """Of a window, without gaps between fields."""
    return np.dtype(
        [
            ("logits", dtype, (n_classes,)),
            ("features", dtype, (n_features,)),
            ("confidence", np.float32),
            ("mask", np.bool_),
        ]
    )


def rows_of(signal: TeacherSignal, trial: int, n_windows: int, dtype: np.dtype) -> np.ndarray:
    """(n_windows,) of one trial of a batch of answers."""
    parts = {part: getattr(signal, part)[trial, :n_windows].cpu().numpy() for part in PARTS}
    return _filled(parts, dtype)


def with_features(rows: np.ndarray, features: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same with other features, (n_windows, n_features), these and logits in another type."""
    return _filled({part: rows[part] for part in PARTS} | {"features": features}, dtype)


def _filled(parts: dict[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
    n_windows, n_classes = parts["logits"].shape
    rows = np.empty(n_windows, _row(n_classes, parts["features"].shape[1], dtype))
    with np.errstate(over="ignore"):  # what becomes infinite is refused where it is written
        for part, values in parts.items():
            rows[part] = values
    return rows


def encode_rows(sample: Sample, rows: np.ndarray, teacher: str) -> tuple[SampleInfo, dict[str, bytes]]:
    """A trial as it is written.

    Raises:
        MtkdError: an answer is no number, or grew too large for the cache's.
    """
    if (found := odd_window(rows)) is not None:
        part, window = found
        told = "train it with a lower learning rate, or cache.dtype = float32 holds larger numbers"
        raise MtkdError(
            f"cache: the {teacher} teacher's {part} of window {window} of {sample.key} are no numbers; {told}"
        )
    return SampleInfo(**sample.model_dump(exclude={"members"})), {member_of(teacher): encode_array(rows)}


def odd_window(rows: np.ndarray) -> tuple[str, int] | None:
    """The first part and window that no teacher can have said: not all numbers, or no probability."""
    for part in PARTS:
        values = rows[part].reshape(len(rows), -1)
        odd = ~np.isfinite(values).all(1)
        if part == "confidence":
            odd |= ~((values >= 0) & (values <= 1)).all(1)
        if odd.any():
            return part, int(odd.argmax())
    return None


def read_rows(shards: ShardSet, key: str, teacher: str) -> np.ndarray:
    """(n_windows,) of a trial, over the mapped bytes.

    Raises:
        MtkdError: as ``ShardSet.read``, or they are no answers.
    """
    rows = shards.read(key, member_of(teacher))
    if rows.dtype.names != PARTS or rows.ndim != 1:
        raise MtkdError(f"{shards.path(key)}: {key}.{member_of(teacher)} holds no answers of a teacher")
    return rows


def check_rows(shards: ShardSet, key: str, teacher: str, rows: np.ndarray, sizes: dict[str, int]) -> None:
    """
    Raises:
        MtkdError: a part is of other ``sizes`` than these (numbers a window), or a window's are none of a teacher.
    """
    place = f"{shards.path(key)}: {key}.{member_of(teacher)}"
    for part, size in sizes.items():
        if rows[part].shape[1:] != (size,):
            raise MtkdError(f"{place}: {part} of shape {rows[part].shape[1:]}, where {size} are expected")
    if (found := odd_window(rows)) is not None:
        raise MtkdError(f"{place}: the {found[0]} of window {found[1]} are none that a teacher says")
