"""What must not harm who runs it. Functions for a child process; none is for the tests' own."""

import os
import time

from triptych_research.json_fields import CheckpointError


def spin(seconds: float) -> float:
    """Use processor time."""
    while time.process_time() < seconds:
        pass
    return seconds


def wait() -> None:
    """Wait for what does not come."""
    while True:
        time.sleep(3600)


def allocate(size: int) -> int:
    return len(bytearray(size))


def recurse(depth: int) -> int:
    return 1 + recurse(depth - 1) if depth else 0


def write(size: int) -> str:
    return "a" * size


def shout(size: int) -> None:
    """Write beside the result."""
    os.write(1, b"a" * size)


def echo(*arguments: object) -> list[object]:
    return list(arguments)


def end_the_process() -> None:
    os.abort()


def refuse(complaint: str) -> None:
    raise CheckpointError(complaint)


def fail() -> None:
    raise KeyError("a defect")
