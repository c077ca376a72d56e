"""What the spatial teacher learned, drawn on the head: importance of electrodes and what was learned of edges."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtkd.errors import MtkdError
from mtkd.evaluate.plots import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

RADIUS_M = 0.095
"""MNE's head circle."""
N_EDGES = 20
FULL_CHANGE = 0.1
"""Change of an edge, of at most 1, from which on lines are as bold as they get: smaller ones shall look so."""
STRONGER, WEAKER = "#0072B2", "#D55E00"
FEWEST = 4
"""Electrodes below which a map would be invention."""
MOST_NAMED = 34
"""Electrodes above which names would cover each other."""
OLD_NAMES = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8"}
"""The 10-20 system's names of places that the 10-05 system renamed."""


def scalp_figure(importance: dict[str, Any], top: float | None = None) -> tuple["Figure | None", list[str]]:
    """Map of a value for each electrode and, where edges were learned, the largest changes to them on a second head.

    Args:
        importance: ``ch_names`` (names of the 10-05 system, in any case); ``values``, one for each name, in any unit,
            NaN where there is none; ``learned``, (n, n), symmetric, what training added to each edge's weight, NaN
            where there is no such edge, or None; ``title``.
        top: where the scale of colours ends, in the unit of the values; without, at their largest.

    Returns:
        The figure, or None where fewer than four names have a value and are on the montage; and the names that do not
        or are not.

    Raises:
        MtkdError: lengths disagree.
    """
    names, values = list(importance["ch_names"]), np.asarray(importance["values"], np.float64)
    edges = importance.get("learned")
    weights = None if edges is None else np.asarray(edges, np.float64)
    if values.shape != (len(names),) or (weights is not None and weights.shape != (len(names),) * 2):
        found = values.shape if weights is None else (*values.shape, *weights.shape)
        raise MtkdError(f"importance: {len(names)} ch_names, but values and learned of shape {found}")
    place = positions(names)
    placed = [index for index, name in enumerate(names) if name in place]
    known = [index for index in placed if np.isfinite(values[index])]
    left_out = [name for index, name in enumerate(names) if index not in known]
    if len(known) < FEWEST:
        return None, left_out
    figure = new_figure(9.5 if weights is not None else 5.2, 4.6)
    axes = list(figure.subplots(1, 1 if weights is None else 2, squeeze=False)[0])
    where, chosen = np.array([place[names[index]] for index in known]), [names[index] for index in known]
    image = _importance(axes[0], values[known], where, top)
    axes[0].set_title(str(importance.get("title", "importance")), fontsize=10, color=INK)
    _electrodes(axes[0], where, chosen, disc=False)
    figure.colorbar(image, ax=axes, location="left", shrink=0.6, label="importance", pad=0.03)
    if weights is not None:
        where, chosen = np.array([place[names[index]] for index in placed]), [names[index] for index in placed]
        _edges(axes[1], weights[np.ix_(placed, placed)], where)
        _electrodes(axes[1], where, chosen, disc=True)
    return figure, left_out


def positions(names: list[str]) -> dict[str, NDArray[np.float64]]:
    """(2,) metres from the vertex, nose up, for each name that the 10-05 system knows.

    On the ideal sphere, whose picture is the textbook's: an electrode's angle from the vertex becomes its distance from
    the centre (azimuthal equidistant, as MNE draws), and the line from nasion over T9 and T10 to inion is the circle.
    """
    import mne

    known = mne.channels.make_standard_montage("spherical_1005").get_positions()["ch_pos"]
    places = {name.lower(): point for name, point in known.items()}
    places |= {old: known[new] for old, new in OLD_NAMES.items()}
    return {name: _flat(np.asarray(places[name.lower()])) for name in names if name.lower() in places}


def _flat(point: NDArray[np.float64]) -> NDArray[np.float64]:
    across = float(np.hypot(point[0], point[1]))
    angle = np.arctan2(across, point[2])
    return point[:2] / max(across, 1e-12) * RADIUS_M * angle / (np.pi / 2)


def _importance(ax: "Axes", values: NDArray, where: NDArray, top: float | None) -> "ScalarMappable":
    signed = bool((values < 0).any())
    top = top or float(np.abs(values).max()) or 1.0
    limits = (-top if signed else 0.0, top)
    return _topomap(ax, values, where, cmap="RdBu_r" if signed else "YlOrBr", vlim=limits)


def _edges(ax: "Axes", weights: NDArray, where: NDArray) -> None:
    from matplotlib.patches import FancyArrowPatch

    rows, columns = np.triu_indices(len(where), 1)
    change = np.nan_to_num((weights + weights.T) / 2)[rows, columns]
    strength = np.abs(change)
    order = np.argsort(strength)[::-1][:N_EDGES]
    order = order[strength[order] > 0]
    _topomap(ax, np.zeros(len(where)), where, cmap="Greys", vlim=(0, 1), contours=0, res=8)  # the bare head
    top = strength[order[0]] if order.size else 1.0
    for edge in order[::-1]:
        ends, share = where[[rows[edge], columns[edge]]], strength[edge] / max(top, FULL_CHANGE)
        colour = STRONGER if change[edge] > 0 else WEAKER
        line: dict[str, Any] = {"color": colour, "lw": 0.5 + 3.5 * share, "alpha": 0.25 + 0.65 * share, "zorder": 1}
        # bent, so that it passes by the electrodes between its ends
        ax.add_patch(
            FancyArrowPatch(*ends, arrowstyle="-", connectionstyle="arc3,rad=0.18", shrinkA=0, shrinkB=0, **line)
        )
    title = f"largest {order.size} learned changes to edges (at most {top:.2g})\nblue: stronger, orange: weaker"
    ax.set_title(title, fontsize=10, color=INK)


def _topomap(ax: "Axes", values: NDArray, where: NDArray, **style: Any) -> "ScalarMappable":
    """MNE's map of values on a head; of electrodes that leave out a quarter of it, as far as these reach."""
    import mne

    is_whole = len(np.unique(where > 0, axis=0)) == 4
    aside = np.random.default_rng(0).normal(scale=1e-5, size=where.shape)  # metre: of points on a circle Qhull despairs
    image, _ = mne.viz.plot_topomap(
        values,
        where + aside,
        sphere=RADIUS_M,
        sensors=False,
        extrapolate="head" if is_whole else "local",
        axes=ax,
        show=False,
        **style,
    )
    return image


def _electrodes(ax: "Axes", where: NDArray, names: list[str], disc: bool) -> None:
    from matplotlib.patheffects import withStroke

    named = len(names) <= MOST_NAMED
    halo = [] if disc else [withStroke(linewidth=2.2, foreground="white")]
    if disc or not named:
        edge: dict[str, Any] = {"color": "white", "edgecolors": INK} if disc else {"color": INK}
        ax.scatter(where[:, 0], where[:, 1], s=230 if named else 14, linewidths=0.8, zorder=2, **edge)
    for name, (x, y) in zip(names if named else [], where, strict=named):
        ax.text(x, y, name, ha="center", va="center", fontsize=7, color=INK, zorder=3, path_effects=halo)
