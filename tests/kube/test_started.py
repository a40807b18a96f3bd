"""The programs, started as the rendered pods say: they are ready, answer, and end in time."""

import pathlib
import re
import secrets
import ssl
import subprocess
import sys

import httpx
import pytest

from e2e.vectors import MODEL
from kube.chart import PRODUCTION, Chart, Rendered, component_of
from kube.pods import Node, Pod, start
from stack.description import ROOT
from stack.loopback import HOST
from stack.native import MODELS, TENANTS
from stack.postgres import Postgres, postgres_programs
from stack.redis import Redis, redis_server
from stack.waiting import wait_until

# A decoder takes seconds to be read and checked.
ONE_MODEL = {"models": {"names": [MODEL]}}
BODY = {"model": MODEL, "input": "a text"}


def import_model(node: Node) -> None:
    """What the init container does before a hot path starts, with a model of this tree in the place of the image's."""
    (importer,) = dict(node.rendered.workloads())["hotpath"]["spec"]["initContainers"]
    dockerfile = (ROOT / "deploy/models.Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "-m", "triptych_research", "--models", "/models"]' in dockerfile
    assert importer["args"] == ["import", "/bundles"]
    bundles = node.volume("bundles")
    (bundles / MODEL).symlink_to(MODELS / MODEL)
    command = [
        sys.executable,
        "-m",
        "triptych_research",
        "--models",
        str(node.volume("models")),
        "import",
        str(bundles),
    ]
    subprocess.run(command, check=True, capture_output=True)


def make_key(gateway: Pod) -> str:
    """As NOTES.txt says."""
    notes = (ROOT / "deploy/chart/templates/NOTES.txt").read_text()
    assert "-- /gateway keys create --tenant" in notes
    return gateway.run("keys", "create", "--tenant", "acme").strip()


def embed(http: httpx.Client, key: str) -> int:
    """The dimensions of a vector; a key that was made just now is known within a second."""

    def answered() -> httpx.Response | None:
        reply = http.post("/v1/embeddings", json=BODY, headers={"Authorization": f"Bearer {key}"})
        return None if reply.status_code == 401 else reply

    reply = wait_until("the key", answered, 5)
    assert reply.status_code == 200, reply.text
    return len(reply.json()["data"][0]["embedding"])


def test_a_newcomers_install_serves_and_drains(chart: Chart, started: list[Pod], tmp_path: pathlib.Path) -> None:
    node = Node(chart.render(ONE_MODEL), tmp_path, {})
    import_model(node)
    hotpath = start(node, "hotpath", started)
    gateway = start(node, "gateway", started)
    hotpath.wait_ready()
    gateway.wait_ready()
    url = f"http://{HOST}:{gateway.ports['api']}"
    with httpx.Client(base_url=url, timeout=30) as http:
        key = make_key(gateway)
        assert embed(http, key) == 384
        assert (tmp_path / "data/gateway").stat().st_mode & 0o777 == 0o700
        gateway.terminate()
        # It is not ready, and serves whoever has not heard of that.
        wait_until("the readiness probe noticing", lambda: not gateway.probe("readiness"), 2)
        assert embed(http, key) == 384
        assert gateway.probe("liveness")
    gateway.wait_for_end()
    assert hotpath.probe("readiness")
    hotpath.terminate()
    hotpath.wait_for_end()


def test_threads_are_as_many_as_processors_are_asked_for(chart: Chart, tmp_path: pathlib.Path) -> None:
    for cpu, threads in (("1500m", "2"), ("3", "3"), ("500m", "1")):
        rendered = chart.render({"hotpath": {"resources": {"requests": {"cpu": cpu}}}})
        env = Pod(Node(rendered, tmp_path, {}), "hotpath").env
        names = ("HOTPATH_COMPUTE_THREADS", "HOTPATH_WORKERS", "HOTPATH_GENERATION_THREADS")
        assert [env[name] for name in names] == [threads] * 3


def test_hot_paths_tell_what_they_are_scaled_by(
    chart: Chart, production: Rendered, started: list[Pod], tmp_path: pathlib.Path
) -> None:
    """With every model, since rows are a decoder's."""
    node = Node(chart.render({"models": {"from": "claim", "claim": "filled"}}), tmp_path, {})
    (tmp_path / "models").symlink_to(MODELS)
    hotpath = start(node, "hotpath", started)
    hotpath.wait_ready()
    text = httpx.get(f"http://{HOST}:{hotpath.ports['metrics']}/metrics").text
    told = set(re.findall(r"^(hotpath_\w+)(?=\{)", text, re.M))
    (scaler,) = [one for one in production.of_kind("HorizontalPodAutoscaler") if component_of(one) == "hotpath"]
    asked = {each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"] if each["type"] == "Pods"}
    assert asked
    assert asked <= told


def test_production_has_its_database_its_redis_its_certificate_and_its_collector(
    chart: Chart, started: list[Pod], tmp_path: pathlib.Path
) -> None:
    programs, redis_program = postgres_programs(), redis_server()
    if programs is None or redis_program is None:
        pytest.skip("LOUD: there is no PostgreSQL or no Redis: that the production example starts is NOT tested")
    postgres, redis = Postgres(programs), Redis(redis_program, tmp_path / "redis")
    try:
        postgres.start()
        redis.start()
        check_production(chart, started, tmp_path, postgres, redis)
    finally:
        redis.stop()
        postgres.remove()


def check_production(chart: Chart, started: list[Pod], folder: pathlib.Path, postgres: Postgres, redis: Redis) -> None:
    certificate = folder / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway"]
    command += ["-addext", f"subjectAltName=IP:{HOST}", "-out", str(certificate), "-keyout", str(folder / "tls.key")]
    subprocess.run(command, check=True, capture_output=True)
    token = secrets.token_hex(32)
    known = {
        "triptych-database": {"url": postgres.url},
        "triptych-redis": {"url": redis.url},
        "triptych-tls": {"tls.crt": certificate.read_text(), "tls.key": (folder / "tls.key").read_text()},
        "triptych-admin": {"token": token},
    }
    rendered = chart.render(ONE_MODEL, files=(PRODUCTION,))
    tenants = {
        "kind": "ConfigMap",
        "metadata": {"name": "triptych-tenants"},
        "data": {"tenants.yaml": TENANTS.read_text()},
    }
    node = Node(Rendered(rendered.values, [*rendered.objects, tenants]), folder, known)
    (folder / "models").symlink_to(MODELS)
    collector = Pod(node, "collector")
    started.append(collector)
    collector.start(COLLECTOR_METRICS_PORT=str(collector.ports["metrics"]), COLLECTOR_USAGE_WAIT="2s")
    hotpath = start(node, "hotpath", started)
    gateway = start(node, "gateway", started, GATEWAY_TRACE_RATIO="1")
    for pod in (collector, hotpath, gateway):
        pod.wait_ready()
    key = make_key(gateway)
    url, trusted = f"https://{HOST}:{gateway.ports['api']}", ssl.create_default_context(cafile=certificate)
    with httpx.Client(base_url=url, verify=trusted, timeout=30) as http:
        assert embed(http, key) == 384
        upload, purpose = {"file": ("a.jsonl", b"{}\n")}, {"purpose": "batch"}
        kept = http.post("/v1/files", files=upload, data=purpose, headers={"Authorization": f"Bearer {key}"})
        assert kept.status_code == 200, kept.text
    assert [path for path in (folder / "data/gateway/blobs").rglob("*") if path.is_file()]
    address = gateway.env["GATEWAY_ADMIN_ADDRESS"]
    overview = httpx.get(f"http://{address}/admin/v1/overview", headers={"Authorization": f"Bearer {token}"})
    assert overview.status_code == 200
    assert postgres.ask("SELECT count(*) FROM triptych.api_key") == "1"
    wait_until("a record of usage", lambda: (folder / "traces/usage.jsonl").exists(), 30)
    for pod in (gateway, hotpath, collector):
        pod.terminate()
        pod.wait_for_end()
    assert key not in "".join(path.read_text() for path in folder.glob("*.log"))
