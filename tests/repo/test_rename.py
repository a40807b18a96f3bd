"""`make rename` leaves nothing of the old name and a project that still works."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
from triptych_research import kernels

from repo import rename
from repo.tree import ROOT, commit_all, copy_tree, git, text_of, tracked_files

NAME, MODULE = "acme", "example.com/acme"


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of the tracked tree, renamed and committed."""
    root = tmp_path_factory.mktemp("renamed")
    copy_tree(root)
    command = [sys.executable, "-m", "repo.rename", NAME, MODULE]
    subprocess.run(command, cwd=root / "tests", check=True, env={**os.environ, "PYTHONPATH": "."})
    commit_all(root, "after")
    # What is pinned by its hash needs no second download.
    (root / ".cache").mkdir()
    (root / ".cache/wheels").symlink_to(ROOT / ".cache/wheels")
    (root / ".venv").symlink_to(sys.prefix)  # where Go's tests look for Redis and PostgreSQL
    return root


@pytest.mark.timeout(300)
def test_nothing_of_the_old_name_is_left(renamed: pathlib.Path) -> None:
    paths = tracked_files(renamed)
    assert [str(path) for path in paths if rename.OLD in str(path).lower()] == []
    # But for whose work it is based on: that is what the license asks of whoever changes it.
    assert [str(path) for path in paths if rename.OLD in (text_of(path, renamed) or "").lower()] == ["NOTICE"]
    notice = (renamed / "NOTICE").read_text()
    assert notice.startswith(f"{NAME.capitalize()}\n\nBased on Triptych\nCopyright 2026 The Triptych authors\n")


@pytest.mark.timeout(300)
def test_stubs_are_regenerated_without_a_difference(renamed: pathlib.Path) -> None:
    subprocess.run([sys.executable, "proto/generate.py"], cwd=renamed, check=True)
    assert git("status", "--porcelain", cwd=renamed) == ""


@pytest.mark.timeout(600)
def test_python_is_imported_and_what_has_the_name_works(renamed: pathlib.Path) -> None:
    more = {
        "PYTHONPATH": str(renamed / "python-research/src"),
        f"{NAME.upper()}_MODELS_DIR": str(ROOT / "models"),
        f"{NAME.upper()}_KERNELS": str(kernels.library()),  # nothing in it has the name
    }
    env = {**os.environ, **more}
    named = ("bundle", "cli", "store", "kernels")  # what writes the name, or is found by it
    tests = [f"tests/test_{what}.py" for what in named]
    for arguments in (["--collect-only"], tests):  # of the others it is enough that all of it is imported
        command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments]
        subprocess.run(command, cwd=renamed / "python-research", check=True, env=env)


def packages_with_the_name() -> set[str]:
    """Of the gateway's packages those that have it in a text, or in a name: not in a path of an import alone."""
    found = set()
    for path in tracked_files():
        match path.parts:
            case ("go-gateway", "internal", package, *_) if package != "pb" and path.suffix == ".go":
                text = re.sub(r'"triptych\.dev/\S*"|triptych/inference', "", text_of(path) or "")
                if rename.OLD in text.lower() and not path.stem.endswith("_test"):
                    found.add(package)
    return found


@pytest.mark.timeout(600)
def test_go_unit_tests_pass(renamed: pathlib.Path) -> None:
    gateway = renamed / "go-gateway"
    subprocess.run(["go", "vet", "./..."], cwd=gateway, check=True)  # all of it compiles, tests too
    packages = packages_with_the_name()
    assert packages >= {"config", "engine", "webhook", "store", "tracing"}
    named = [f"./internal/{package}" for package in sorted(packages - {"store"})]
    for of_them in (named, ["-run=ASchema|TheSchema|EveryTable", "./internal/store"]):
        subprocess.run(["go", "test", *of_them], cwd=gateway, check=True)
    # Other modules. With the race detector, what they depend on has been compiled already.
    for module, tests in (
        ("embed", "TestEvery"),
        ("consumer", "Document|Settings|Refusals"),
        ("collector", "Record|Shapes"),
    ):
        command = ["go", "test", "-race", f"-run={tests}", "./..."]
        subprocess.run(command, cwd=renamed / "go-gateway/cmd" / module, check=True)


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    "CI" not in os.environ, reason="LOUD: takes minutes, without anything that is compiled; always run in CI"
)
def test_rust_compiles(renamed: pathlib.Path) -> None:
    # Its target folder is its own: in ours, what is made of the renamed contract would pass for that of the real one.
    # It begins with a copy of what `make lint` has compiled of crates that are not ours, which have no part in the
    # name. Not with links: build scripts write into the files that are there.
    ours = ROOT / "rust-hotpath/target/debug"
    made = {path: path.read_bytes() for path in ours.glob("build/hotpath-*/out/*")}
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache", prefix="renamed-") as target:
        for folder in ("deps", "build", ".fingerprint"):
            if (ours / folder).exists():
                of_others = shutil.ignore_patterns("*hotpath*")
                shutil.copytree(ours / folder, pathlib.Path(target, "debug", folder), ignore=of_others)
        command = ["cargo", "check", "--locked", "--quiet", "--workspace", "--all-targets"]
        env = {**os.environ, "CARGO_TARGET_DIR": target}
        subprocess.run(command, cwd=renamed / "rust-hotpath", check=True, env=env)
    assert [path for path, content in made.items() if path.read_bytes() != content] == []


@pytest.mark.parametrize("name", ["", "a", "Acme", "9lives", "ac-me", "match", "func", "class", "json", "numpy"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        rename.check_name(name)


@pytest.mark.parametrize("module", ["acme", "acme/gateway", "https://example.com/acme", "example.com/", ""])
def test_bad_modules_are_refused(module: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        rename.check_module(module)
