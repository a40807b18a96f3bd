"""Waiting for conditions with a deadline, in the one place that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_INTERVAL_S = 0.02


class StackError(Exception):
    """The stack could not be started, or broke: the message is for the person at the terminal."""


class Stopped(Exception):  # noqa: N818
    """The person at the terminal does not want to wait any longer."""


def wait_until(what: str, probe: Callable[[], T | None], limit_s: float, poll_s: float = POLL_INTERVAL_S) -> T:
    """Ask `probe` until it answers something true, and return that; after `limit_s` seconds raise StackError.

    The probe may raise StackError itself when waiting longer is useless.
    """
    end = time.monotonic() + limit_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > end:
            raise StackError(f"{what} did not happen within {limit_s:.0f} s")
        time.sleep(poll_s)
