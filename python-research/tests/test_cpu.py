"""What the system says of a processor."""

import pathlib

import threadpoolctl

from triptych_research import cpu


def test_the_first_processor_s_name_is_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\nmodel name\t: another\n")
    assert cpu.model_name(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz: fast"


def test_what_rounds_is_named_by_architecture_and_kernels() -> None:
    machine, *kernels = cpu.rounding("x86_64").split(", ")
    assert machine == "x86_64"
    assert kernels == [each["architecture"] for each in threadpoolctl.threadpool_info() if "architecture" in each]


def test_a_system_that_says_nothing_still_has_a_name(tmp_path: pathlib.Path) -> None:
    assert cpu.model_name(tmp_path / "none")
