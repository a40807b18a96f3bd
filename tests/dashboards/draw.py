"""A dashboard as Grafana would show it: its grid, its panels, their curves, and letters where something happened."""

import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot, ticker
from matplotlib.axes import Axes

from plots import SOFT
from stack.prometheus import OBSERVE

# Grafana's grid: 24 columns, and rows of this many inches.
INCHES = 0.5, 0.29
GAP_S = 2.5
CURVES = 8  # of a panel; the ones that reach highest
UNITS: Mapping[str, Callable[[float, float], str]] = {
    "bytes": lambda value, _: f"{value / 2**30:,.0f} GiB" if value >= 2**33 else f"{value / 2**20:,.0f} MiB",
    "s": lambda value, _: f"{value:,.0f} s" if value >= 10 else f"{value * 1000:,.0f} ms",
    "percentunit": lambda value, _: f"{value:.0%}",
    "reqps": lambda value, _: f"{value:g} /s",
    "cps": lambda value, _: f"{value:g} /s",
    "short": lambda value, _: f"{value:,g}",
    "bool_yes_no": lambda value, _: "no" if value == 0 else "yes" if value == 1 else "",
}

Series = Sequence[tuple[float, float]]
Ask = Callable[[str], Sequence[tuple[Mapping[str, str], Series]]]


def names() -> Iterator[str]:
    """Those of the dashboards that there are."""
    for path in sorted((OBSERVE / "grafana/dashboards").glob("*.json")):
        yield path.stem


def draw(name: str, ask: Ask, happened: Mapping[str, float], end: float, path: pathlib.Path) -> None:
    """Draw a dashboard into an SVG file. `ask` finds the curves of a query, in seconds from the beginning to `end`;
    what happened is drawn by its letter.
    """
    panels = json.loads((OBSERVE / f"grafana/dashboards/{name}.json").read_text())["panels"]
    width, height = 24, max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    with pyplot.rc_context():
        mpl.rcParams |= {"font.size": 7, "svg.fonttype": "none", "font.family": "sans-serif", "lines.linewidth": 1}
        figure = pyplot.figure(figsize=(width * INCHES[0], height * INCHES[1]))
        for panel in panels:
            place = panel["gridPos"]
            left, top = place["x"] / width, 1 - place["y"] / height
            if panel["type"] == "row":
                figure.text(0.01, top - 0.7 / height, panel["title"], fontsize=10, weight="bold")
                continue
            # Room for the title above, for the legend below, and for numbers on the left.
            axes = figure.add_axes(
                (
                    left + 1.3 / width,
                    top - (place["h"] - 2.3) / height,
                    (place["w"] - 1.6) / width,
                    (place["h"] - 3.3) / height,
                )
            )
            _fill(axes, panel, ask, happened, end)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _fill(axes: Axes, panel: Mapping[str, Any], ask: Ask, happened: Mapping[str, float], end: float) -> None:
    curves = [
        (_legend(target["legendFormat"], labels), series)
        for target in panel["targets"]
        for labels, series in ask(target["expr"])
    ]
    curves.sort(key=lambda curve: -max(value for _, value in curve[1]))
    for label, series in sorted(curves[:CURVES]):
        axes.plot(*zip(*_with_gaps(series), strict=True), label=label)
    for letter, moment in happened.items():
        axes.axvline(moment, color=SOFT, linewidth=0.6, linestyle=":")
        axes.text(moment, 1, letter, transform=axes.get_xaxis_transform(), fontsize=6, color="#666666", ha="center")
    axes.set_title(panel["title"], fontsize=8, loc="left", pad=8)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, end)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_locator(ticker.FixedLocator([0, 1]) if unit == "bool_yes_no" else ticker.MaxNLocator(4))
    axes.yaxis.set_major_formatter(UNITS[unit])
    axes.xaxis.set_major_formatter("{x:.0f} s")
    if curves:
        more = f"the highest; {len(curves) - CURVES} more are below" if len(curves) > CURVES else None
        longest = max(len(label) for label, _ in curves)
        legend = axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.18, -0.16),
            ncols=3 if longest < 24 else 2 if longest < 36 else 1,
            fontsize=5.5,
            frameon=False,
            title=more,
            columnspacing=1,
            handlelength=1,
        )
        legend.get_title().set_fontsize(5.5)
    else:
        axes.text(0.5, 0.5, "nothing of it", transform=axes.transAxes, ha="center", color="#999999")


def _with_gaps(series: Series) -> Iterator[tuple[float, float]]:
    """With nothing where there was none for a while, so that no line is drawn across it."""
    last = series[0][0]
    for moment, value in series:
        if moment - last > GAP_S:
            yield last, math.nan
        yield moment, value
        last = moment


def _legend(text: str, labels: Mapping[str, str]) -> str:
    filled = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), text).strip()
    # Where one process alone is of a kind, its place says nothing.
    return re.sub(r"unix:\S*/|127\.0\.0\.1:\d+ ?", "", filled) or labels.get("job", "–")
