"""Code in a child process: what is within its bounds comes back, what is not is an error that names the subject."""

import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import hostile
import pytest

from triptych_research import confined
from triptych_research.json_fields import CheckpointError

MEMORY = 256 * 2**20

within_memory = pytest.mark.skipif(sys.platform == "darwin", reason="macOS knows no bound of address space")


@pytest.mark.parametrize(
    ("function", "within", "beyond", "complaint"),
    [
        (hostile.spin, 0.5, 60, "takes more than 1 s of processor time"),
        pytest.param(
            hostile.allocate, MEMORY // 2, MEMORY, f"needs more than {MEMORY} bytes of memory", marks=within_memory
        ),
        (hostile.recurse, 500, 10**5, "nested too deeply"),
        (hostile.write, confined.OUTPUT_BYTES - 14, confined.OUTPUT_BYTES - 13, "makes more than 1048576 bytes"),
    ],
)
def test_what_is_within_a_bound_comes_back_and_what_is_beyond_is_refused(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], Any], within: Any, beyond: Any, complaint: str
) -> None:
    monkeypatch.setattr(confined, "CPU_SECONDS", 1)
    monkeypatch.setattr(confined, "MEMORY_BYTES", MEMORY)
    assert confined.call("it", function, within) == function(within)
    with pytest.raises(CheckpointError) as caught:
        confined.call("it", function, beyond)
    assert str(caught.value) == f"it: {complaint}"


def test_who_waits_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "WALL_SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"^it: takes more than 1 s$"):
        confined.call("it", hostile.wait)
    assert time.monotonic() - start < 60


def test_a_library_that_ends_its_process_does_not_end_this_one() -> None:
    with pytest.raises(CheckpointError, match=r"^it: ends the library that reads it: SIGABRT$"):
        confined.call("it", hostile.end_the_process)


def test_an_error_of_the_function_names_the_subject() -> None:
    with pytest.raises(CheckpointError, match=r"^it: is not good$"):
        confined.call("it", hostile.refuse, "is not good")


def test_a_defect_keeps_its_trace() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^it: exit status 1: Traceback.*KeyError: 'a defect'"):
        confined.call("it", hostile.fail)


def test_what_a_library_writes_is_no_answer() -> None:
    assert confined.call("it", hostile.shout, 1000) is None


def test_arguments_are_any_text() -> None:
    text = "ü\x00\n\u2028🚀" * 1000
    assert confined.call("it", hostile.echo, text, [1.5, None, {"a": True}]) == [text, [1.5, None, {"a": True}]]


def test_a_child_is_not_told_to_look_for_modules_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('found in the working folder')")
    monkeypatch.chdir(tmp_path)
    assert confined.call("it", hostile.allocate, 1) == 1
