"""How figures are drawn: one look, and files whose bytes depend on nothing but the figures."""

import pathlib
from collections.abc import Callable

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

mpl.use("svg")
mpl.rcParams |= {"font.size": 10, "svg.hashsalt": "benchmarks", "axes.spines.top": False, "axes.spines.right": False}
SOFT, GOLD, RUST = "#b9bec8", "#b08d3e", "#a5502d"


def save_plot(path: pathlib.Path, draw: Callable[[Axes], None]) -> None:
    """Draw into an SVG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    draw(axes)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
