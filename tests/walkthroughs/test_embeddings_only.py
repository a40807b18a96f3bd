"""docs/make-it-yours.md, "Embeddings only": what generates is taken out of the gateway, and the rest works."""

import re

import pytest

from repo.edits import section
from repo.tree import ROOT, text_of, tracked_files
from walkthroughs.copies import Copy

pytestmark = pytest.mark.timeout(1200)
SECTION = section((ROOT / "docs/make-it-yours.md").read_text(), "Embeddings only")
OF_CHATS = re.compile(r"chat[./]completions|/v1/completions|e2e\.chats|import [\w, ]*\bchats\b|\"smollm2-")
# Documents and what tests them; and what stays as it is.
ABOUT_CHATS = ("docs/", "tests/repo/", "tests/walkthroughs/", "python-research/", "rust-hotpath/", "tests/contract/")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("embeddings"), SECTION)
    release = copy.root / "rust-hotpath/target/release"
    release.mkdir(parents=True)
    (release / "hotpath").symlink_to(ROOT / "rust-hotpath/target/release/hotpath")
    return copy


def test_what_still_mentions_chats_is_named(copy: Copy) -> None:
    (paragraph,) = re.findall(r"^Still to be mended by hand.*?\n\n", SECTION, re.M | re.S)
    named = tuple(re.findall(r"`([^`]+)`", paragraph))
    mentions = [
        str(path)
        for path in tracked_files(copy.root)
        if OF_CHATS.search(text_of(path, copy.root) or "") and not str(path).startswith(ABOUT_CHATS)
    ]
    assert [path for path in mentions if not path.startswith(named)] == []
    assert [name for name in named if not any(path.startswith(name) for path in mentions)] == []


def test_the_gateway_is_clean_and_its_tests_pass(copy: Copy) -> None:
    copy.run("go-gateway", 'test -z "$(gofmt -l . | tee /dev/stderr)" && go vet ./... && go tool staticcheck ./...')
    copy.run("go-gateway", "go test ./... && go build -trimpath -o bin/gateway ./cmd/gateway")


def test_the_stack_works(copy: Copy) -> None:
    only = "HOTPATH_MODEL_NAMES=all-minilm-l6-v2,moderation-minilm"
    copy.run(
        "tests", f"{only} python -m pytest e2e/test_embeddings.py e2e/test_moderations.py e2e/test_errors.py::test_case"
    )
