"""The repository's shape: what its documents promise about its files."""

import re

import pytest

from repo.documents import dead_links
from repo.tree import ROOT, text_of, tracked_files

COMPONENTS = ["deploy", "go-gateway", "python-research", "rust-hotpath", "tests"]
HEADINGS = ["What it does", "Run", "Test", "Settings", "Change it"]
LARGEST_FILE = 500_000  # bytes
GENERATED = re.compile(
    r"_pb2(_grpc)?\.pyi?$|\.pb\.go$|^docs/config\.md$|(^|/)[\w.-]*lock[\w.-]*$|requirements\.txt$|go\.sum$"
)
LONGEST_SOURCE = 500  # lines
# What only makes sense to whoever wrote a line on the day it was written.
UNFINISHED = re.compile(
    r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|to" + r"do!\(|unimplemen" + r"ted!\(|NotImplemen" + r"tedError"
)
MACHINE_PATH = re.compile(r"(?<![\w.$}*-])/(home|Users|root|work)/\w")


def files_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in tracked_files()
        if not GENERATED.search(str(path))
        for number, line in enumerate((text_of(path) or "").splitlines(), 1)
        if pattern.search(line)
    ]


def test_top_level_is_the_documented_list() -> None:
    table = (ROOT / "docs/architecture.md").read_text().split("## Top level", 1)[1].split("\n## ", 1)[0]
    documented = {name.rstrip("/") for name in re.findall(r"^\| `([^`]+)` \|", table, re.M)}
    tracked = {path.parts[0] for path in tracked_files()}
    assert {name for name in tracked if name == ".ci" or not name.startswith(".")} == documented


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_readme_has_the_five_headings(component: str) -> None:
    text = (ROOT / component / "README.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.M)[: len(HEADINGS)] == HEADINGS


def test_no_large_file() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in tracked_files()}
    assert {path: size for path, size in sizes.items() if size > LARGEST_FILE} == {}


def test_no_long_source_file() -> None:
    sources = [
        path for path in tracked_files() if path.suffix in {".py", ".go", ".rs"} and not GENERATED.search(str(path))
    ]
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources}
    assert {path: count for path, count in lines.items() if count > LONGEST_SOURCE} == {}


def test_no_weights_nor_build_output() -> None:
    forbidden = {".onnx", ".safetensors", ".gguf", ".whl", ".so", ".pyc"}
    assert [str(path) for path in tracked_files() if path.suffix in forbidden] == []


def test_nothing_is_unfinished() -> None:
    assert files_with(UNFINISHED) == []


def test_no_path_of_one_machine() -> None:
    assert files_with(MACHINE_PATH) == []


def test_links_in_documents_lead_somewhere() -> None:
    assert dead_links(ROOT) == []
