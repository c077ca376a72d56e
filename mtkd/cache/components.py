"""Principal components of a teacher's features: what a cache may hold in place of all of them."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float

from mtkd.cache.members import read_rows, with_features
from mtkd.errors import MtkdError
from mtkd.shards.index import Sample
from mtkd.shards.read import ShardSet

FILE = "components.safetensors"
_MEAN, _COMPONENTS = "mean", "components"


@dataclass(frozen=True)
class Components:
    """A mean and the orthonormal directions of most variance about it, in order; ``explained`` is their share of it."""

    mean: Float[np.ndarray, " feature"]
    directions: Float[np.ndarray, "component feature"]
    explained: float = float("nan")

    def reduce(self, features: Float[np.ndarray, "window feature"]) -> Float[np.ndarray, "window component"]:
        """Features of a trial in these directions, the same to the last digit wherever it is done trial by trial."""
        return (features - self.mean) @ self.directions.T

    def save(self, folder: Path) -> None:
        """Write them beside the tars."""
        safetensors.numpy.save_file({_MEAN: self.mean, _COMPONENTS: self.directions}, folder / FILE)


def load_components(folder: Path) -> Components:
    """Those that a cache was reduced by.

    Raises:
        MtkdError: the file is damaged.
    """
    try:
        found = safetensors.numpy.load_file(folder / FILE)
        return Components(found[_MEAN], found[_COMPONENTS])
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise MtkdError(f"{folder / FILE}: no readable components ({error})") from None


def fit_components(batches: Iterable[Float[np.ndarray, "window feature"]], n_components: int) -> Components:
    """The first ``n_components`` of all windows together, in one pass. The sign is such that a direction's largest
    number is positive.

    Raises:
        MtkdError: there is no window.
    """
    some = (batch.astype(np.float64) for batch in batches if len(batch))
    first = next(some, None)
    if first is None:
        raise MtkdError("cache.n_components: no training window that a teacher heard, so there is nothing to fit")
    shift = first.mean(0)  # near the mean, so that nothing is lost when its square is taken off
    n, total, products = 0, np.zeros_like(shift), np.zeros((len(shift), len(shift)))
    for rows in itertools.chain([first], some):
        n += len(rows)
        total += (rows - shift).sum(0)
        products += (rows - shift).T @ (rows - shift)
    mean = total / n
    values, vectors = np.linalg.eigh(products / n - np.outer(mean, mean))
    directions = vectors[:, ::-1][:, :n_components].T
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    explained = values[::-1][:n_components].sum() / max(values.sum(), np.finfo(float).tiny)
    turned = directions * np.sign(largest)
    return Components((shift + mean).astype(np.float32), np.ascontiguousarray(turned, np.float32), float(explained))


def heard_features(full: ShardSet, keys: Iterable[str], name: str) -> Iterator[Float[np.ndarray, "window feature"]]:
    """Of some trials, the windows that the teacher heard."""
    for key in keys:
        rows = read_rows(full, key, name)
        yield rows["features"][rows["mask"]]


def reduced(
    full: ShardSet, samples: Iterable[Sample], name: str, components: Components, dtype: np.dtype
) -> Iterator[tuple[Sample, np.ndarray]]:
    """The rows of trials as ``full`` has them, logits and features in another type and features reduced."""
    for sample in samples:
        rows = read_rows(full, sample.key, name)
        yield sample, with_features(rows, components.reduce(rows["features"]), dtype)
