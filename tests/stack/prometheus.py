"""A Prometheus of a test's own, with our rules, in which all takes a sixtieth of the time."""

import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import yaml

from stack.description import ROOT, Stack
from stack.loopback import HOST, free_port
from stack.waiting import wait_until

OBSERVE = ROOT / "deploy/observe"
RULES = ("objectives.yaml", "faults.yaml")
SCRAPE_S = 0.5
START_LIMIT_S = 30


def prometheus() -> str | None:
    """The program; None where there is none."""
    return shutil.which("prometheus")


def scaled(text: str) -> str:
    """Rules, or a query, whose minutes are seconds. Shorter ones would have too few samples."""
    text = text.replace("$__rate_interval", "5m")
    text = re.sub(r"\[(\d+)m\]", lambda match: f"[{max(int(match[1]), 5)}s]", text)
    text = re.sub(r"\[(\d+)h\]", lambda match: f"[{match[1]}m]", text)
    return re.sub(r"\bfor: (\d+)m", r"for: \1s", text)


def panel_queries() -> Iterator[tuple[str, str]]:
    """Where a query is, and the query."""
    for path in sorted((OBSERVE / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def rule_queries() -> Iterator[tuple[str, str]]:
    """Likewise of rules. What an alert compares is looked at, and not whether it is so."""
    for name in RULES:
        for group in yaml.safe_load((OBSERVE / "rules" / name).read_text())["groups"]:
            for rule in group["rules"]:
                for part in re.split(r" (?:and|or|unless on \(\w+\)) (?!vector)", rule["expr"]):
                    yield f"{name}: {rule.get('alert') or rule['record']}", re.sub(r" (==|<|>) [\d.e* ]+$", "", part)


def is_of_collector(query: str) -> bool:
    """Whether a query asks for what the collector of traces tells."""
    return re.search(r"\b(collector|otelcol)_", query) is not None


class Prometheus:
    """Asks a stack's services twice a second, and its collector of traces if there is one."""

    def __init__(self, program: str, folder: pathlib.Path, stack: Stack, collector_url: str = "") -> None:
        (folder / "rules").mkdir(parents=True)
        for name in RULES:
            (folder / "rules" / name).write_text(scaled((OBSERVE / "rules" / name).read_text()))
        config = yaml.safe_load((OBSERVE / "prometheus.yaml").read_text())
        config["global"] = {
            "scrape_interval": f"{SCRAPE_S * 1000:.0f}ms",
            "evaluation_interval": f"{SCRAPE_S * 1000:.0f}ms",
        }
        urls = {"gateway": stack.metrics_url, "hotpath": stack.hotpath_metrics_url}
        if collector_url:
            urls["collector"] = collector_url
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in urls]
        for job in config["scrape_configs"]:
            url = httpx.URL(urls[job["job_name"]])
            job["static_configs"] = [{"targets": [f"{url.host}:{url.port}"]}]
        (folder / "prometheus.yaml").write_text(json.dumps(config))
        port = free_port()
        self._command = [
            program,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--enable-feature=exemplar-storage",
        ]
        self._log = folder / "prometheus.log"
        self._http = httpx.Client(base_url=f"http://{HOST}:{port}", timeout=10)

    def __enter__(self) -> "Prometheus":
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

        def ready() -> bool:
            assert self._child.poll() is None, self._log.read_text()
            try:
                return self._http.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until("Prometheus", ready, START_LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._child.terminate()
        self._child.wait()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What a query finds now."""
        found = self._http.get("/api/v1/query", params={"query": query}).json()
        assert found["status"] == "success", (query, found)
        data: list[dict[str, Any]] = found["data"]["result"]
        return data

    def ask_range(self, query: str, begin: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """What it found at each step between two moments, in seconds since 1970."""
        parameters: dict[str, str | float] = {"query": query, "start": begin, "end": end, "step": step_s}
        found = self._http.get("/api/v1/query_range", params=parameters).json()
        assert found["status"] == "success", (query, found)
        data: list[dict[str, Any]] = found["data"]["result"]
        return data

    def exemplars(self, query: str) -> list[dict[str, Any]]:
        """The traces that are examples of what a query is about."""
        found = self._http.get(
            "/api/v1/query_exemplars", params={"query": query, "start": 0, "end": "2100-01-01T00:00:00Z"}
        )
        return [exemplar for series in found.json()["data"] for exemplar in series["exemplars"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._http.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def wait_for(self, *alerts: str, firing: bool, limit_s: float) -> None:
        """Wait until all of these alerts fire, or none of them does."""

        def are() -> bool:
            now = self.firing()
            return all((alert in now) == firing for alert in alerts)

        wait_until(f"{alerts} {'fire' if firing else 'are over'}", are, limit_s)
