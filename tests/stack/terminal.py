"""Ctrl-C, and what people see."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from rich.console import Console

console = Console(highlight=False)


@contextlib.contextmanager
def until_told_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets.

    At a terminal, Ctrl-C reaches us and not `make`, which would call a clean end a failure.
    """
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        with foreground():
            yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Be the terminal's foreground process group, alone; nothing where there is no terminal."""
    if not is_terminal() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        yield
        return
    before = os.getpgrp()
    # Whoever changes the foreground group from the background is stopped, unless it ignores this.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    if before != os.getpid():
        os.setpgid(0, 0)
    os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(sys.stdin.fileno(), before)


def is_terminal() -> bool:
    """Whether somebody is there to press Ctrl-C."""
    return sys.stdin.isatty()
