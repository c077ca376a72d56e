import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib import image, pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mtkd.errors import MtkdError
from mtkd.evaluate import plots
from mtkd.evaluate.best import NO_EEG, WITH_EEG
from mtkd.evaluate.scalp import RADIUS_M, STRONGER, WEAKER, positions, scalp_figure


@pytest.fixture(autouse=True)
def _pyplot_is_left_alone() -> Iterator[None]:
    yield
    assert pyplot.get_fignums() == []


def drawn(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    buffer.seek(0)
    return image.imread(buffer)


def words(figure: Figure) -> str:
    texts = [text for ax in figure.axes for text in (*ax.texts, ax.title, *ax.get_xticklabels(), *ax.get_yticklabels())]
    return "\n".join(text.get_text() for text in texts)


def test_models_keep_their_colours(quadrant_results: dict[str, Any]) -> None:
    palette = plots.colours(quadrant_results["models"])
    trained = plots.trained(quadrant_results["models"])
    assert len({palette[name] for name in trained}) == len(trained) == 5
    assert {palette[name] for name in (WITH_EEG, NO_EEG)} == {"black"}
    assert {palette["majority"], palette["class share"]} == set(plots.TRIVIAL)
    assert plots.colours([{"name": f"s{i}", "kind": "student"} for i in range(30)]).keys() == {
        f"s{i}" for i in range(30)
    }


def test_results_figure(quadrant_results: dict[str, Any]) -> None:
    figure = plots.results_figure(quadrant_results, "joint")
    assert drawn(figure).std() > 0.05
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == [
        "chance",
        "upper 5 % of guessing (pooled trials)",
        WITH_EEG,
        NO_EEG,
    ]
    axes = figure.axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [m["name"] for m in quadrant_results["models"]]
    bounded = [ax for place, ax in enumerate(axes) if place % 3 < 2]  # pseudo-values are not
    assert len(bounded) == 4
    assert all(ax.get_xlim()[0] >= -0.02 and ax.get_xlim()[1] <= 1.02 for ax in bounded)
    dots = axes[0].collections[0].get_offsets()
    entry = quadrant_results["levels"]["trial"]["joint"]["models"]["majority"]
    assert sorted(dots[:, 0]) == sorted(values["balanced_accuracy"] for values in entry["subjects"].values())


def test_confusion_figure(quadrant_results: dict[str, Any], binary_results: dict[str, Any]) -> None:
    for results in (quadrant_results, binary_results):
        figure = plots.confusion_figure(results)
        assert drawn(figure).std() > 0.05
        text = words(figure)
        counts = results["levels"]["trial"]["joint"]["models"]["swept"]["confusion"]
        assert all(f"({count:g})" in text for row in counts for count in row)
        assert "majority" not in text


def test_calibration_figure(quadrants: Any, quadrant_results: dict[str, Any]) -> None:
    figure = plots.calibration_figure(quadrant_results, quadrants.predictions)
    assert drawn(figure).std() > 0.03
    ece = quadrant_results["levels"]["window"]["joint"]["models"]["distilled"]["pooled"]["ece"]
    assert f"distilled\nECE {ece:.3f}" in words(figure)


def test_confidence_figure(quadrants: Any, quadrant_results: dict[str, Any]) -> None:
    figure = plots.confidence_figure(quadrant_results, quadrants.predictions, ["temporal teacher", "swept"])
    assert drawn(figure).std() > 0.03
    rows = quadrants.predictions["swept"].labelled()
    dots = np.asarray(figure.axes[1].collections[0].get_offsets())
    given = rows.probs[np.arange(len(rows)), rows.label]
    bins = np.ceil(rows.confidence * quadrant_results["study"]["n_bins"])
    expected = [[rows.confidence[bins == each].mean(), given[bins == each].mean()] for each in np.unique(bins)]
    np.testing.assert_allclose(dots, expected)


def test_time_figure(quadrants: Any, quadrant_results: dict[str, Any]) -> None:
    figure = plots.time_figure(quadrant_results, quadrants.predictions, ["temporal teacher", "swept"])
    assert drawn(figure).std() > 0.03
    confidence = figure.axes[1].lines[0]
    np.testing.assert_allclose(confidence.get_xdata(), np.arange(5) * 4.0)
    rows = quadrants.predictions["swept"]
    np.testing.assert_allclose(
        confidence.get_ydata(), [rows.confidence[rows.window == place].mean() for place in range(5)]
    )
    assert figure.get_supxlabel() == "start of the window in its trial (s)"


def test_panels_fill_their_rows() -> None:
    for n, shape in ((1, (1, 1)), (5, (1, 5)), (6, (2, 3)), (11, (3, 4))):
        _, panels = plots._panels([str(index) for index in range(n)], 2, 2)
        grid = panels[0].get_gridspec()
        assert (len(panels), grid.nrows, grid.ncols) == (n, *shape)


def edges_of(figure: Any) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[1].patches if isinstance(patch, FancyArrowPatch)]


def test_scalp_figure(quadrants: Any) -> None:
    figure, left_out = scalp_figure(quadrants.importance)
    assert left_out == []
    assert drawn(figure).std() > 0.05
    text = words(figure)
    assert text.count("Fp1") == text.count("T3") == 2
    assert "largest 20 learned changes" in text
    edges = edges_of(figure)
    weights = np.triu(quadrants.importance["learned"], 1)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    place = positions(quadrants.importance["ch_names"])
    names = quadrants.importance["ch_names"]
    ends = max(edges, key=lambda edge: edge.get_linewidth()).get_path().vertices[[0, -1]]
    np.testing.assert_allclose(ends, [place[names[row]], place[names[column]]], atol=1e-9)
    assert len(edges) == 20


def test_scalp_without_edges_or_with_signs(quadrants: Any) -> None:
    given = quadrants.importance | {"learned": None}
    assert len(scalp_figure(given)[0].axes) == 2  # the head and its colour bar
    signed = given | {"values": np.linspace(-1, 1, 19)}
    assert scalp_figure(signed)[0] is not None
    nothing = given | {"values": np.zeros(19), "learned": np.zeros((19, 19))}
    assert "largest 0 learned changes" in words(scalp_figure(nothing)[0])


def test_edges_that_grew_weaker_are_told_apart(quadrants: Any) -> None:
    learned = np.zeros((19, 19))
    learned[0, 1] = learned[1, 0] = 0.5
    learned[2, 3] = learned[3, 2] = -0.7
    figure, _ = scalp_figure(quadrants.importance | {"learned": learned})
    edges = {to_hex(edge.get_edgecolor()).upper(): edge for edge in edges_of(figure)}
    assert set(edges) == {STRONGER, WEAKER}
    assert edges[WEAKER].get_linewidth() > edges[STRONGER].get_linewidth()


def test_one_scale_of_colours_for_several_heads(quadrants: Any) -> None:
    tops = {
        scalp_figure(quadrants.importance | {"values": np.full(19, each)}, 3.0)[0].axes[-1].get_ylim()[1]
        for each in (1, 2)
    }
    assert tops == {3.0}


def test_electrodes_off_the_montage_are_named() -> None:
    names = ["Fz", "CZ", "Pz", "Oz", "X7", "EKG"]
    figure, left_out = scalp_figure({"ch_names": names, "values": range(6), "learned": np.ones((6, 6)), "title": "t"})
    assert left_out == ["X7", "EKG"]
    assert figure is not None
    assert "CZ" in words(figure)
    assert scalp_figure({"ch_names": names[2:], "values": range(4), "learned": None})[0] is None


def test_electrodes_without_a_value_are_named_and_keep_their_edges(quadrants: Any) -> None:
    values, learned = np.array(quadrants.importance["values"]), np.zeros((19, 19))
    values[0], learned[0, 1], learned[1, 0], learned[2, 3] = np.nan, 0.5, 0.5, np.nan
    figure, left_out = scalp_figure(quadrants.importance | {"values": values, "learned": learned})
    assert left_out == ["Fp1"]
    assert words(figure).count("Fp1") == 1
    assert "largest 1 learned changes" in words(figure)


@pytest.mark.parametrize(
    "names", ["TP9 AF7 AF8 TP10", "Fz Cz Pz Oz", "T7 T8 Fpz Oz", "Fp1 Fp2 F7 F8 Fz", "T7 C3 P7 P3"]
)
def test_few_electrodes_on_a_circle_a_line_or_a_part_of_the_head_are_drawn(names: str) -> None:
    n = len(names.split())
    figure, left_out = scalp_figure(
        {"ch_names": names.split(), "values": np.arange(n), "learned": np.ones((n, n)), "title": names}
    )
    assert left_out == []
    assert drawn(figure).std() > 0.02


def test_scalp_refuses_lengths_that_disagree(quadrants: Any) -> None:
    with pytest.raises(MtkdError, match=r"19 ch_names, but values and learned of shape \(3,\)"):
        scalp_figure(quadrants.importance | {"values": [1, 2, 3], "learned": None})
    with pytest.raises(MtkdError, match="19 ch_names"):
        scalp_figure(quadrants.importance | {"learned": np.ones((3, 3))})


def test_positions_are_the_textbooks() -> None:
    place = positions(["Cz", "T3", "t8", "Fpz", "Oz", "AF3", "M1"])
    np.testing.assert_allclose(place["Cz"], 0, atol=1e-9)
    np.testing.assert_allclose(place["T3"], [-0.8 * RADIUS_M, 0], atol=1e-4)
    np.testing.assert_allclose(place["t8"], [0.8 * RADIUS_M, 0], atol=1e-4)
    np.testing.assert_allclose(place["Fpz"], [0, 0.8 * RADIUS_M], atol=1e-4)
    np.testing.assert_allclose(place["Oz"], [0, -0.8 * RADIUS_M], atol=1e-4)
    assert place["AF3"][0] < 0 < place["AF3"][1]
    assert "M1" not in place
