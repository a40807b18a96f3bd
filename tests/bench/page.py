"""What the pages of all parts have in common: the table of goals."""

import dataclasses
from collections.abc import Sequence

from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from plots import GOLD, RUST, SOFT


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure beside what was expected and what is wanted."""

    what: str
    against: str
    value: str
    expected: str = ""
    wanted: str = ""


def markdown(rows: Sequence[Row]) -> str:
    """The table of goals."""
    return table(
        ("what", "against", "measured", "expected", "wanted"),
        [(row.what, row.against, f"**{row.value}**", row.expected, row.wanted) for row in rows],
    )


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines)])


def show(rows: Sequence[Row], console: Console) -> None:
    """The same on a terminal."""
    shown = Table("what", "against", "measured", "expected", "wanted")
    for row in rows:
        shown.add_row(row.what, row.against, row.value, row.expected, row.wanted)
    console.print(shown)


def threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def draw_cpu(axes: Axes, cpu: Sequence[tuple[str, dict[str, float]]], unit: str) -> None:
    """Bars of CPU time: a label, and the time of each process, which are the same ones in the same order."""
    labels = [label for label, _ in cpu]
    left = [0.0] * len(cpu)
    for name, color in zip(cpu[0][1], (RUST, GOLD, SOFT), strict=True):
        values = [times[name] for _, times in cpu]
        axes.barh(labels, values, left=left, color=color, label=name, height=0.55)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.set(xlabel=unit)
    axes.legend(loc="lower right", frameon=False, ncols=3)
