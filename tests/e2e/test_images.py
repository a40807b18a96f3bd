"""Every image, also those that `make up` does not start: a program runs without any right, and has its licences."""

import subprocess

import docker
import pytest

from e2e.test_containers import USER
from repo.test_deploy import GO_PROGRAMS
from stack.compose import files_in
from stack.description import ROOT

TMPFS = {"/tmp": ""}  # noqa: S108
IMAGES = sorted(path.name.removesuffix(".Dockerfile") for path in (ROOT / "deploy").glob("*.Dockerfile"))
# Something that is linked into each; models are Python's packages, which have their licences with them.
LINKED = {"hotpath": "tokenizers", **{name: linked for name, (_, _, linked) in GO_PROGRAMS.items()}}


@pytest.fixture(scope="module", autouse=True)
def images(compose_only: None) -> None:
    subprocess.run(["make", "images"], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", IMAGES)
def test_a_program_runs_and_has_the_licences_of_what_is_in_it(name: str) -> None:
    containers = docker.from_env().containers
    container = containers.create(
        f"triptych-{name}", "--help", read_only=True, tmpfs=TMPFS, cap_drop=["ALL"], network_mode="none"
    )
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0, container.logs()
        assert container.attrs["Config"]["User"] == USER
        documents = files_in(container, "/usr/share/doc/triptych").keys()
        assert {"triptych/LICENSE", "triptych/NOTICE"} <= documents
        if name in LINKED:
            assert [path for path in documents if path.startswith(f"triptych/linked/{LINKED[name]}-")], documents
    finally:
        container.remove(force=True)
