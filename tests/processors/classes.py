"""The classes of processors between which bundles are carried: this machine's own, and emulated ones."""

import os
import pathlib
import sys
from dataclasses import dataclass

from processors import arm64
from stack.description import ROOT
from stack.native import HOTPATH, onnxruntime_library


@dataclass(frozen=True)
class Processor:
    """How programs run there."""

    name: str
    python: list[str]  # with the research package's modules and its tests'
    hotpath: list[str]
    library: pathlib.Path  # ONNX Runtime


def own() -> Processor:
    return Processor("own", [sys.executable], [str(HOTPATH)], onnxruntime_library())


def emulated() -> Processor:
    """The one that TRIPTYCH_EMULATED names: arm64, or x86, where TRIPTYCH_EMULATOR goes before each command."""
    name = os.environ["TRIPTYCH_EMULATED"]
    if name == "arm64":
        (library,) = arm64.LIBRARY.glob("libonnxruntime.so.*")
        return Processor(name, [str(arm64.PYTHON)], arm64.emulated(arm64.HOTPATH), library)
    emulator = os.environ["TRIPTYCH_EMULATOR"].split()
    there = own()
    return Processor(name, [*emulator, *there.python], [*emulator, *there.hotpath], there.library)


def modules() -> str:
    """Where Python finds what makes tiny models."""
    return os.pathsep.join(str(ROOT / "python-research" / folder) for folder in ("src", "tests"))
