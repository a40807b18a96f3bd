"""Where peers of the benchmarks are kept: outside of the checkout, where every checkout finds them."""

import os
import pathlib
import sys
from collections.abc import Callable

from rich.console import Console

from stack.waiting import StackError

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "triptych"


def install_once(place: pathlib.Path, program: pathlib.Path, install: Callable[[Console], None]) -> None:
    """Have `install` make the peer at `place` unless its program is there, and say so; exit where that fails."""
    console = Console()
    try:
        if not program.exists():
            install(console)
    except StackError as error:
        console.print(f"[red]{error}", highlight=False)
        sys.exit(1)
    console.print(f"{place} is there: `make bench` compares with it")
