"""What deploy/ promises of its containers, read from the files. That they run is for the end-to-end tests."""

import pathlib
import re
import subprocess
from typing import Any

import pytest
import yaml

from repo.tree import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
CONSUMER = ROOT / "go-gateway/cmd/consumer"
# The Go programs that have an image: module, package, and something that is linked into each.
GO_PROGRAMS = {
    "gateway": ("go-gateway", "./cmd/gateway", "google.golang.org/grpc"),
    "consumer": ("go-gateway/cmd/consumer", ".", "github.com/nats-io/nats.go"),
    "embed": ("go-gateway/cmd/embed", ".", "github.com/apache/arrow-go/v18"),
    "operator": ("go-gateway/cmd/operator", ".", "sigs.k8s.io/controller-runtime"),
    "collector": ("go-gateway/cmd/collector", ".", "go.opentelemetry.io/collector/otelcol"),
}
DOCKERFILES = pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.Dockerfile")), ids=lambda path: path.name)


def test_the_root_has_what_is_here() -> None:
    root = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert root == {"name": COMPOSE["name"], "include": ["deploy/compose.yaml", "deploy/observe.yaml"]}


def test_a_saved_file_of_the_gateway_is_built() -> None:
    (watch,) = COMPOSE["services"]["gateway"]["develop"]["watch"]
    assert watch["action"] == "rebuild"
    assert (DEPLOY / watch["path"] / "go.mod").exists()


def test_what_is_not_asked_for_stays_away() -> None:
    by_profile: dict[str, set[str]] = {}
    for name, service in COMPOSE["services"].items():
        (profile,) = service.get("profiles", [""])
        by_profile.setdefault(profile, set()).add(name)
        for needed in service.get("depends_on", {}):
            assert COMPOSE["services"][needed].get("profiles", [profile]) == [profile]
    assert by_profile == {
        "": {"models", "hotpath", "tenants", "keys", "gateway"},
        "consumer": {"consumer-key", "consumer"},
        "embed": {"embed"},
        "observe": {"collector"},
    }


def test_nats_is_what_the_consumer_is_tested_with_and_has_few_rights() -> None:
    """It is for trying out, in a file of its own: no profile of compose.yaml needs its image."""
    nats = yaml.safe_load((DEPLOY / "nats.yaml").read_text())["services"]["nats"]
    (version,) = re.findall(r"nats-io/nats-server/v2 v(\S+)", (CONSUMER / "go.mod").read_text())
    assert nats["image"] == f"nats:{version}"
    assert (nats["read_only"], nats["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in nats["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in nats["ports"])
    assert COMPOSE["services"]["consumer"]["environment"]["CONSUMER_NATS_URL"] == "${NATS_URL:-nats://nats:4222}"


def test_the_consumer_has_its_own_settings_and_a_key_for_its_eyes_alone() -> None:
    service, maker = COMPOSE["services"]["consumer"], COMPOSE["services"]["consumer-key"]
    known = set(re.findall(r"`(CONSUMER_[A-Z_]+)`", (ROOT / "docs/consumers.md").read_text()))
    assert set(service["environment"]) <= known
    assert service["environment"]["CONSUMER_API_KEY_FILE"] == maker["command"][-1]
    assert service["volumes"] == ["consumer-key:/keys:ro"]
    assert "consumer-key:/keys" in maker["volumes"]
    # A new volume takes the owner of the folder in the image: 65532, which both run as.
    assert "COPY --from=build --chown=65532:65532 /keys /keys" in (DEPLOY / "gateway.Dockerfile").read_text()


def test_the_collector_has_our_configuration_and_is_told_of_where_it_is_asked_for() -> None:
    services = COMPOSE["services"]
    collector = services["collector"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in collector["volumes"])
    paths = [pathlib.PurePath(path) for path in collector["command"] if path != "--config"]
    config = "".join((DEPLOY / mounts[str(path.parent)] / path.name).read_text() for path in paths)
    known = set(re.findall(r"\$\{env:(COLLECTOR_[A-Z_]+)", config))
    assert set(collector["environment"]) <= known
    documented = set(re.findall(r"`(COLLECTOR_[A-Z_]+)`", (ROOT / "docs/collector.md").read_text()))
    assert documented == known
    assert collector["environment"]["COLLECTOR_FOLDER"] in mounts
    jaeger = yaml.safe_load((DEPLOY / "observe/jaeger.yaml").read_text())
    receiver = jaeger["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert collector["environment"]["COLLECTOR_FORWARD_TO"] == "jaeger:" + receiver.rpartition(":")[2]
    for name in ("gateway", "hotpath"):  # without it, nothing is recorded
        assert services[name]["environment"][f"{name.upper()}_OTLP_ENDPOINT"] == "${OTLP_ENDPOINT:-}"


@SERVICES
def test_your_edit_is_what_runs(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["pull_policy"] == "build"
    assert re.fullmatch(rf"{COMPOSE['name']}-\w+", service["image"]), "a local name, which no registry has"
    assert (DEPLOY / pathlib.Path(service["build"]["dockerfile"]).name).exists()


@SERVICES
def test_a_container_has_as_few_rights_as_it_needs(name: str) -> None:
    service = COMPOSE["services"][name]
    # Who owns a clone is not known beforehand.
    changes_modes = {"cap_add": ["DAC_READ_SEARCH", "FOWNER"], "user": "0:0"} if name == "tenants" else {}
    assert {key: service[key] for key in ("cap_add", "user", "group_add") if key in service} == changes_modes
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("privileged", False) is False
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_hot_path_which_has_no_keys_is_not_published() -> None:
    targets = [port.rsplit(":", 1)[1] for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert sorted(targets) == ["8080", "9464", "9465"]
    added = yaml.safe_load((DEPLOY / "compose.grpc.yaml").read_text())["services"]["hotpath"]["ports"]
    assert added == ["127.0.0.1:${GRPC_PORT:-50051}:50051"]


@SERVICES
def test_no_single_file_is_mounted(name: str) -> None:
    """A mount of a file keeps the file that it was, when an editor puts a new one in its place."""
    for volume in COMPOSE["services"][name].get("volumes", []):
        source = volume.split(":")[0]
        assert not source.startswith(".") or (DEPLOY / source).is_dir()


def test_the_gateways_image_can_trust_and_says_what_it_is() -> None:
    text = (DEPLOY / "gateway.Dockerfile").read_text()
    assert "/etc/ssl/certs/ca-certificates.crt" in text.split("FROM scratch")[1]
    assert {"VERSION", "REVISION", "GOPROXY", "GOSUMDB"} == set(COMPOSE["services"]["gateway"]["build"]["args"])
    for name in ("version", "revision"):
        assert f"-X $telemetry.{name}=${name.upper()}" in text


@SERVICES
def test_a_build_behind_a_mirror_is_told_of_it(name: str) -> None:
    build = COMPOSE["services"][name]["build"]
    text = (DEPLOY / pathlib.Path(build["dockerfile"]).name).read_text()
    declared = {word for line in re.findall(r"^ARG (.+)$", text, re.M) for word in re.findall(r"[A-Z_]+", line)}
    assert declared == set(build["args"])
    assert declared & {"GOPROXY", "PIP_INDEX_URL"}


@SERVICES
def test_whatever_serves_has_a_health_check_of_its_own(name: str) -> None:
    service = COMPOSE["services"][name]
    if service["restart"] == "no":
        return  # ends by itself, and is waited for
    command, program, subcommand = service["healthcheck"]["test"]
    assert (command, program, subcommand) == ("CMD", f"/{name}", "healthcheck")


@SERVICES
def test_services_wait_for_what_they_need(name: str) -> None:
    for needed, condition in COMPOSE["services"][name].get("depends_on", {}).items():
        ends = COMPOSE["services"][needed]["restart"] == "no"
        wanted = "service_completed_successfully" if ends else "service_healthy"
        assert condition["condition"] == wanted


@DOCKERFILES
def test_images_run_as_a_numeric_user(path: pathlib.Path) -> None:
    last_stage = re.split(r"^FROM ", path.read_text(), flags=re.M)[-1]
    users = re.findall(r"^USER (\S+)$", last_stage, re.M)
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


@DOCKERFILES
def test_images_hold_the_licences_of_what_is_in_them(path: pathlib.Path) -> None:
    last_stage = re.split(r"^FROM ", path.read_text(), flags=re.M)[-1]
    assert "\nCOPY LICENSE NOTICE /usr/share/doc/triptych/\n" in last_stage
    # Of what is linked; a Python package brings its own along.
    assert "\nCOPY --from=build /licenses /usr/share/doc/triptych/linked\n" in last_stage


@pytest.mark.parametrize("name", GO_PROGRAMS)
def test_licences_are_of_what_is_linked(name: str, tmp_path: pathlib.Path) -> None:
    module, package, linked = GO_PROGRAMS[name]
    assert f"/licenses.sh go /licenses {package}\n" in (DEPLOY / f"{name}.Dockerfile").read_text()
    subprocess.run(["sh", DEPLOY / "licenses.sh", "go", tmp_path, package], cwd=ROOT / module, check=True)
    texts = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert any(text.startswith(f"{linked}-v") for text in texts)
    assert any(re.match(r"go-go[\d.]+/LICENSE$", text) for text in texts)
    tools = ("honnef.co", "nats-server")  # and this repository's own module, which has no text there
    assert not [text for text in texts if text.startswith("triptych.dev") or any(tool in text for tool in tools)]


@DOCKERFILES
def test_base_images_are_pinned(path: pathlib.Path) -> None:
    text = path.read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", text, re.M)) | {"scratch"}
    bases = set(re.findall(r"^FROM (\S+)", text, re.M)) - stages
    # A language by its patch release. Debian by its own: within one, its tag moves by security updates alone.
    exact = r"(golang|rust|python):\d+\.\d+\.\d+-(slim-)?bookworm|debian:bookworm-slim"
    assert bases
    assert all(re.fullmatch(exact, base) for base in bases), bases
    assert "# syntax" not in text, "it fetches a frontend at each build"
