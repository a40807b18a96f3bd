"""What dashboards are made of, and how Grafana reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS, WIDTH, HEIGHT = 24, 8, 7  # of Grafana's grid, and of a panel
SOURCE = {"type": "prometheus", "uid": "prometheus"}
API = 'route=~"/v1/.*"'
RANGE = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """Curves over time: queries by what their curves are called, in Grafana's way of putting labels into it."""

    title: str
    unit: str
    queries: Mapping[str, str]
    about: str


@dataclass(frozen=True)
class Dashboard:
    """Panels under headings."""

    name: str
    title: str
    rows: Mapping[str, Sequence[Panel]]


def quantiles(metric: str, by: str, of: str = "") -> dict[str, str]:
    """The median and the 99th percentile of a histogram, by a label."""
    return {
        f"p{percent} {{{{{by}}}}}": (
            f"histogram_quantile({percent / 100}, sum by (le, {by}) (rate({metric}_bucket{{{of}}}[{RANGE}])))"
        )
        for percent in (50, 99)
    }


def rate(metric: str, by: str, of: str = "") -> str:
    """How much a counter grows a second, by labels."""
    return f"sum by ({by}) (rate({metric}{{{of}}}[{RANGE}]))"


def ratio(part: str, whole: str, by: str) -> str:
    """The share that one counter's growth has of another's, by labels."""
    return f"{rate(part, by)} / {rate(whole, by)}"


def top(expression: str) -> str:
    """The ten largest."""
    return f"topk(10, {expression})"


def render(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for heading, row in dashboard.rows.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": heading,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        y += 1
        for number, panel in enumerate(row):
            x = number * WIDTH % COLUMNS
            place = {"x": x, "y": y + number * WIDTH // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(panel, len(panels) + 1, place))
        y += (len(row) * WIDTH + COLUMNS - 1) // COLUMNS * HEIGHT
    return {
        "uid": f"triptych-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["triptych"],
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "schemaVersion": 39,
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "exemplar": "_bucket" in expression,
        }
        for index, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }
