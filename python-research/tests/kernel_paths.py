"""Our own operators by each path that this processor has: the instructions that they are made of."""

import contextlib
import functools
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from triptych_research import kernels

SETTING = "HOTPATH_KERNELS"  # which a library reads when it is first registered


@functools.cache
def available() -> list[str]:
    """Names of the paths: the first one is the definition."""
    with pytest.raises(kernels.KernelsError) as error, forced("none"):
        kernels.register(onnxruntime.SessionOptions())
    told = re.search(r'cannot run kernels for "none"; it can for ([\w, ]+)', str(error.value))
    assert told, error.value
    return told[1].split(", ")


@contextlib.contextmanager
def forced(path: str) -> Iterator[None]:
    """Sessions that are opened meanwhile take this path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kernels.LIBRARY, str(_library(path)))
        patch.setenv(SETTING, path)
        yield


@functools.cache
def _library(path: str) -> Path:
    """A library of its own for each path: one that is loaded keeps its path."""
    copy = Path(_folder().name) / f"{path}{kernels.library().suffix}"
    shutil.copyfile(kernels.library(), copy)
    return copy


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
