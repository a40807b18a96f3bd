"""Operators of our own for ONNX Runtime, which every result of a decoder or an encoder comes from.

They are written in Rust (rust-hotpath/crates/kernels, whose scalar path defines each result to the last bit) and give
the same bits on every processor, whatever is computed along. The hot path links them; here the same crate is a library
that a session loads.
"""

import ctypes
import os
import pathlib
import platform
import struct

import onnxruntime

DOMAIN, VERSION = "hotpath.kernels", 2
LIBRARY = "TRIPTYCH_KERNELS"  # the environment variable that names the library where it is not where `make` puts it
_SUFFIX = "dylib" if platform.system() == "Darwin" else "so"
_BUILT = pathlib.Path(__file__).parent / f"../../../rust-hotpath/target/release/libhotpath_kernels_ort.{_SUFFIX}"
# Of an ELF header of 64 bits: where the table of sections is, how long an entry is, and how many there are.
_ELF = struct.Struct("<40xQ10xHH2x")


class KernelsError(Exception):
    """The library cannot be used; the message says why, and what to run."""


def register(options: onnxruntime.SessionOptions) -> None:
    """Let sessions with these options run graphs of these operators. Raises KernelsError."""
    path = library()
    if (version := _version(path)) != VERSION:
        raise _error(path, f"version {version}, not {VERSION}")
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise _error(path, str(error)) from error


def library() -> pathlib.Path:
    """Return where the library is, or should be."""
    return pathlib.Path(os.environ.get(LIBRARY) or _BUILT).resolve()


def _version(path: pathlib.Path) -> int:
    try:
        if _is_cut_short(path):
            raise _error(path, "cut short")
        return int(ctypes.CDLL(str(path)).hotpath_kernels_version())
    except (OSError, AttributeError) as error:  # no library, and another one
        raise _error(path, "no such file" if not path.exists() else str(error)) from error


def _is_cut_short(path: pathlib.Path) -> bool:
    """Tell whether an ELF file lacks its end, the table of its sections: to load it would end the process."""
    with path.open("rb") as file:
        header = file.read(_ELF.size)
    if len(header) < _ELF.size or not header.startswith(b"\x7fELF"):
        return False
    table, size, count = _ELF.unpack(header)
    return bool(path.stat().st_size < table + size * count)


def _error(path: pathlib.Path, problem: str) -> KernelsError:
    remedy = f"`make kernels` builds the operators that our graphs are made of, and {LIBRARY} may name another place"
    return KernelsError(f"{path}: {problem.removeprefix(f'{path}: ')}; {remedy}")
