"""Whether a processor is made for int8 is asked of the processor, or read from what the system says of it."""

import pathlib

import pytest
import threadpoolctl

from triptych_research import cpu


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Features\t: fp asimd asimddp", True),
        ("Features\t: fp asimd", False),
        ("bugs\t\t: asimddp", False),
        ("Features\t: my_asimddp", False),
    ],
)
def test_flags_are_words(tmp_path: pathlib.Path, line: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\n{line}\n")
    assert cpu.has_int8_dot_product("aarch64", tmp_path / "cpuinfo") is expected
    assert cpu.model_name(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz: fast"


def test_what_rounds_is_named_by_architecture_and_kernels() -> None:
    machine, *kernels, dot_product = cpu.rounding("x86_64").split(", ")
    assert machine == "x86_64"
    assert kernels == [each["architecture"] for each in threadpoolctl.threadpool_info() if "architecture" in each]
    assert dot_product == ("int8 dot product" if cpu.has_int8_dot_product() else "no int8 dot product")


def test_a_system_that_says_nothing_has_none(tmp_path: pathlib.Path) -> None:
    assert not cpu.has_int8_dot_product("aarch64", tmp_path / "none")
    assert cpu.model_name(tmp_path / "none")
