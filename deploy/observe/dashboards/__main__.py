"""Writes grafana/dashboards/: `make generate`. Change panels here; what was edited there is overwritten."""

import json
import pathlib

import collector
import durable
import hotpath
import service
import tenants
from panels import render

FOLDER = pathlib.Path(__file__).parent.parent / "grafana/dashboards"

if __name__ == "__main__":
    for dashboard in (
        service.DASHBOARD,
        tenants.DASHBOARD,
        hotpath.DASHBOARD,
        durable.DASHBOARD,
        collector.DASHBOARD,
    ):
        text = json.dumps(render(dashboard), indent=1) + "\n"
        (FOLDER / f"{dashboard.name}.json").write_text(text)
