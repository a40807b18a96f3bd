"""The stack that the tests drive: `--stack native` (default) starts one, `compose` and `url` use another.

`stack` is shared by all tests of a run, which leave it as it was. Tests that break things start their own through
`start_native`; they are skipped, loudly, where the stack is not native.
"""

import os
import pathlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from stack.compose import ComposeStack, unused_ports
from stack.description import STACK_JSON, Stack
from stack.models import wait_until_proven
from stack.native import NativeStack

KINDS = ("native", "compose", "url")
LOG_TAIL = 4_000  # characters
# Beside a stack of `make up`, not in its place.
PROJECT = "triptych-e2e"
LOGS = pytest.StashKey[Callable[[], list[pathlib.Path]]]()
COMPOSE = pytest.StashKey[ComposeStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=KINDS,
        default=os.environ.get("STACK", "native"),
        help="what the end-to-end tests drive: processes that they start, docker compose, or .run/stack.json",
    )


@pytest.fixture(scope="session")
def stack_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.config.getoption("--stack")
    return kind


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, stack_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack with the default settings."""
    if stack_kind == "url":
        if not STACK_JSON.exists():
            pytest.fail(f"{STACK_JSON} is missing: start the stack with `make run`")
        yield Stack.read(STACK_JSON)
    elif stack_kind == "compose":
        if not ComposeStack.engine_works():
            if "CI" in os.environ:
                pytest.fail("no container engine with Compose v2 answers, and in CI there must be one")
            pytest.skip("LOUD: no container engine with Compose v2 answers: the compose stack is NOT tested")
        with ComposeStack(PROJECT, unused_ports(), publish_grpc=True) as compose:
            request.session.stash[COMPOSE] = compose
            stack = compose.describe()
            wait_until_proven(stack.grpc)
            yield stack
    else:
        native = NativeStack(tmp_path_factory.mktemp("stack"))
        yield native.start()
        native.stop()


@pytest.fixture
def compose(request: pytest.FixtureRequest, compose_only: None) -> ComposeStack:
    """The containers behind `stack`, for tests of what only containers have."""
    request.getfixturevalue("stack")
    return request.session.stash[COMPOSE]


@pytest.fixture(scope="session")
def compose_only(stack_kind: str) -> None:
    """For tests of what only containers have."""
    if stack_kind != "compose":
        pytest.skip("LOUD: this test is about containers, and so runs with --stack compose only")


@pytest.fixture
def native_only(stack_kind: str) -> None:
    """For tests of what only processes of this machine have."""
    if stack_kind != "native":
        pytest.skip("LOUD: this test starts or breaks services, and so runs with --stack native only")


@pytest.fixture
def start_native(
    request: pytest.FixtureRequest, native_only: None, tmp_path: pathlib.Path
) -> Iterator[Callable[..., NativeStack]]:
    """Start stacks of one's own, to break: the arguments are NativeStack's. All are stopped at the test's end."""
    started: list[NativeStack] = []

    def start(*, wait: bool = True, **settings: Any) -> NativeStack:
        # A decoder takes seconds to be read and checked: tests that need more than embeddings say so.
        hotpath = {"model-names": "all-minilm-l6-v2", **settings.pop("hotpath", {})}
        native = NativeStack(tmp_path / f"stack{len(started)}", hotpath=hotpath, **settings)
        started.append(native)
        native.start(wait=wait)
        return native

    request.node.stash[LOGS] = lambda: [process.log for native in started for process in native.processes()]
    yield start
    for native in started:
        native.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the services' last log lines with a test that failed, and only with it."""
    report = yield
    if report.failed:
        logs = item.stash[LOGS]() if LOGS in item.stash else []
        stack = getattr(item, "funcargs", {}).get("stack")
        if isinstance(stack, Stack):
            logs += [pathlib.Path(path) for path in stack.logs.values()]
        for log in logs:
            report.sections.append((f"end of {log}", log.read_text(errors="replace")[-LOG_TAIL:]))
        if COMPOSE in item.session.stash:
            report.sections.append(("end of the containers' logs", item.session.stash[COMPOSE].logs()[-LOG_TAIL:]))
    return report
