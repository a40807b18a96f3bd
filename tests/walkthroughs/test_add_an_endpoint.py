"""docs/add-an-endpoint.md, followed to the letter, gives an endpoint that works."""

import os
from collections.abc import Iterator

import pytest

from repo.tree import ROOT
from walkthroughs.copies import Copy

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    copy = Copy(tmp_path_factory.mktemp("endpoint"), (ROOT / "docs/add-an-endpoint.md").read_text())
    copy.run(".", "python proto/generate.py")
    copy.take_what_was_built("release")
    yield copy
    copy.run(".", "rm -rf rust-hotpath/target")


def test_types_fit(copy: Copy) -> None:
    copy.run("tests", "mypy")


def test_the_gateway_and_its_tests(copy: Copy) -> None:
    copy.run("go-gateway", "go build -trimpath -o bin/gateway ./cmd/gateway && go vet ./...")
    copy.run("go-gateway", "go test ./internal/server ./internal/openai")


def test_the_stack_and_its_tests(copy: Copy) -> None:
    copy.run("rust-hotpath", "cargo build --release --locked")
    copy.run("tests", "python -m pytest -k detokenize e2e/test_detokenize.py e2e/test_errors.py contract")


@pytest.mark.skipif("CI" not in os.environ, reason="LOUD: takes minutes; always run in CI")
def test_the_hot_path_s_tests(copy: Copy) -> None:
    copy.take_what_was_built("debug")
    copy.run("rust-hotpath", "cargo test --locked -p hotpath-server --test service cases::")
