"""`make doctor` on machines that lack something."""

import os
import pathlib
import subprocess
import sys

import pytest

from repo import doctor
from repo.tree import ROOT


@pytest.mark.parametrize(
    ("flags", "found", "advice"),
    [
        ("fpu avx2 avx512f avx512_vnni amx_int8", "AMX", False),
        ("avx2 avx512f avx512_vnni", "AVX-512 VNNI", False),
        ("avx2 avx_vnni", "AVX-VNNI", False),
        ("avx2 avx512f", "AVX-512 without VNNI", True),
        ("avx avx2", "AVX2", True),
        ("fp asimd asimddp", "NEON with dot products", False),
        ("sse2 avx", "none of the classes that this was tried on", True),
    ],
)
def test_a_processor_has_a_class(tmp_path: pathlib.Path, flags: str, found: str, advice: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    finding = doctor.processor(cpuinfo)
    assert (finding.found, bool(finding.advice)) == (found, advice)


@pytest.mark.parametrize(
    ("output", "mark"),
    [
        ("go version go1.26.0 linux/amd64", doctor.FINE),
        ("go version go1.27 linux/amd64", doctor.FINE),
        ("go version go1.9.7 linux/amd64", doctor.MISSING),
        ("", doctor.MISSING),
    ],
)
def test_a_program_that_is_too_old_is_missing(output: str, mark: str) -> None:
    assert doctor.program("go", "1.26.0", output, "").mark == mark
    assert (doctor.program("go", "1.26.0", output, "", optional=True).mark == doctor.POOR) == (mark != doctor.FINE)


def examine(path: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "tests/repo/doctor.py"]
    environment = {**os.environ, "PATH": path, "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_here_nothing_is_missing() -> None:
    result = examine(os.environ["PATH"])
    assert result.returncode == 0, result.stdout
    assert "HTTP_PROXY" in result.stdout


def test_all_that_is_missing_is_named_at_once(tmp_path: pathlib.Path) -> None:
    result = examine(str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.strip() == "doctor: missing: go, rust, c compiler, curl"
    assert "https://go.dev/dl" in result.stdout
