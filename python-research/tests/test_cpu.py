"""Whether a processor is made for int8 is read from what the system says of it."""

import pathlib

import pytest

from triptych_research import cpu


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni sse", True),
        ("flags\t\t: fpu avx_vnni", True),
        ("Features\t: fp asimd asimddp", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("bugs\t\t: avx_vnni", False),
        ("flags\t\t: my_avx_vnni", False),
    ],
)
def test_flags_are_words(tmp_path: pathlib.Path, line: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\n{line}\n")
    assert cpu.has_int8_dot_product(tmp_path / "cpuinfo") is expected
    assert cpu.model_name(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz: fast"


def test_a_system_that_says_nothing_has_none(tmp_path: pathlib.Path) -> None:
    assert not cpu.has_int8_dot_product(tmp_path / "none")
    assert cpu.model_name(tmp_path / "none")
