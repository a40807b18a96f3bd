"""Rules and their documents hold together. That queries find something is for tests/e2e/test_dashboards.py."""

import os
import pathlib
import re
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from repo.tree import ROOT

OBSERVE = ROOT / "deploy/observe"
RULES = {
    rule["alert"]: rule
    for name in ("objectives.yaml", "faults.yaml")
    for group in yaml.safe_load((OBSERVE / "rules" / name).read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/observe.yaml").read_text())["services"]


def test_each_alert_is_explained_to_who_is_paged() -> None:
    section = (ROOT / "docs/operations.md").read_text().split("## Dashboards and alerts")[1].split("\n## ")[0]
    explained = [
        name for row in re.findall(r"^\| (`.+?) \|", section, re.M) for name in re.findall(r"`([A-Z]\w+)`", row)
    ]
    assert sorted(explained) == sorted(RULES)


def test_each_alert_says_how_urgent_it_is_and_what_happened() -> None:
    for rule in RULES.values():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary"}


def test_each_alert_is_seen_to_fire_and_to_clear() -> None:
    fires: dict[str, list[bool]] = {name: [] for name in RULES}
    for each in yaml.safe_load((OBSERVE / "rules/tests.yaml").read_text())["tests"]:
        for test in each["alert_rule_test"]:
            fires[test["alertname"]].append(bool(test["exp_alerts"]))
    for name, seen in fires.items():
        assert True in seen, name
        assert False in seen[seen.index(True) :], name


def test_the_rules_do_as_their_tests_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "there is no promtool"
        pytest.skip("LOUD: there is no promtool: alerts are NOT tested")
    for arguments in (["check", "config", "prometheus.yaml"], ["test", "rules", "rules/tests.yaml"]):
        subprocess.run([promtool, *arguments], cwd=OBSERVE, check=True)


@pytest.mark.parametrize("name", SERVICES)
def test_its_containers_are_pinned_and_have_few_rights(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\w+/\w+:v?\d+\.\d+\.\d+", service["image"])
    assert service["profiles"] == ["observe"], "it is only there where it is asked for"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        assert not source.startswith(".") or (ROOT / "deploy" / source).is_dir()


def test_examples_lead_to_the_store_of_traces() -> None:
    """From a panel's point to its trace: each step names the one before. Grafana and Jaeger are not run by any test."""
    folder = OBSERVE / "grafana/provisioning/datasources"
    sources = {
        source["uid"]: source
        for path in folder.glob("*.yaml")
        for source in yaml.safe_load(path.read_text())["datasources"]
    }
    assert {urlsplit(source["url"]).hostname for source in sources.values()} <= SERVICES.keys()
    (to,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    store = sources[to["datasourceUid"]]
    for service in ("go-gateway/internal/telemetry/metrics.go", "rust-hotpath/crates/server/src/metrics.rs"):
        assert f'"{to["name"]}"' in (ROOT / service).read_text(), "the label of examples"
    jaeger = yaml.safe_load((OBSERVE / "jaeger.yaml").read_text())
    url, page = urlsplit(store["url"]), jaeger["extensions"]["jaeger_query"]["http"]["endpoint"]
    assert (url.hostname, f"0.0.0.0:{url.port}") == ("jaeger", page)
    path = pathlib.PurePath(SERVICES["jaeger"]["command"][-1])
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["jaeger"]["volumes"])
    assert (ROOT / "deploy" / mounts[str(path.parent)] / path.name) == OBSERVE / "jaeger.yaml"


def test_each_dashboard_asks_a_source_that_there_is() -> None:
    text = "".join(path.read_text() for path in (OBSERVE / "grafana/provisioning/datasources").glob("*.yaml"))
    for path in (OBSERVE / "grafana/dashboards").glob("*.json"):
        for uid in re.findall(r'"uid": "(?!triptych-)(\w+)"', path.read_text()):
            assert f"uid: {uid}" in text, path
