"""What the fuzz targets run, in a process of their own: a source is read, and the outcome is one word or one line.

`python fuzzed.py` limits its memory, then reads commands from standard input, a kind and a folder in a line, and
answers each in a line. The tests end it when an answer takes too long.
"""

import pathlib
import resource
import sys

from triptych_research import bundle, cli, confined
from triptych_research.decoder import checkpoint as decoder_checkpoint
from triptych_research.embedding import checkpoint
from triptych_research.sources import Folder
from triptych_research.store import Store

MEMORY_BYTES = 4 * 2**30  # of address space, of which libraries take a part that they never touch


def encoder(folder: pathlib.Path) -> None:
    checkpoint.load(Folder(folder, "MIT", "somebody").fetch(folder))


def decoder(folder: pathlib.Path) -> None:
    decoder_checkpoint.load(Folder(folder, "MIT", "somebody").fetch(folder))


def models(folder: pathlib.Path) -> None:
    """Read the models folder's only model."""
    store = Store(folder)
    (name,) = store.names()
    bundle.read(store.current_path(name))


KINDS = {"encoder": encoder, "decoder": decoder, "models": models}


def _answer(kind: str, folder: str) -> str:
    try:
        KINDS[kind](pathlib.Path(folder))
    except cli.EXPECTED as error:
        return f"refused: {cli.one_line(error)}"
    return "read"


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    confined.CPU_SECONDS, confined.MEMORY_BYTES = 2, 2**30
    for line in sys.stdin:
        print(_answer(*line.rstrip("\n").split(" ", 1)), flush=True)


if __name__ == "__main__":
    main()
