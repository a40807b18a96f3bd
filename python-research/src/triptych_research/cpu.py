"""What this machine's processor is, and whether it is made for int8."""

import functools
import pathlib
import platform

import numpy as np
import onnxruntime
import threadpoolctl
from onnx import TensorProto

from triptych_research.graph import GraphBuilder

_CPUINFO = pathlib.Path("/proc/cpuinfo")
_X86 = ("x86_64", "AMD64")


def has_int8_dot_product(machine: str = platform.machine(), cpuinfo: pathlib.Path = _CPUINFO) -> bool:
    """Tell whether the processor has CPU_FEATURE_INT8_DOT_PRODUCT; no where nothing says so.

    An x86 processor is asked itself, for /proc/cpuinfo may be about another one: that of an emulator's host.
    """
    if machine in _X86:
        return _fast_products_are_exact()
    return any("asimddp" in value.split() for value in _values(cpuinfo, {"Features"}))


@functools.cache
def _fast_products_are_exact() -> bool:
    """Tell whether ONNX Runtime's fast 8-bit products are right where x86 without VNNI saturates."""
    inputs, outputs, largest = 64, 16, (255, 127)
    graph = GraphBuilder("product")
    weight = graph.constant("weight", np.full((inputs, outputs), largest[1], np.int8))
    graph.node("MatMulInteger", ["x", weight], "y")
    model = graph.model([("x", TensorProto.UINT8, (1, inputs))], [("y", TensorProto.INT32, (1, outputs))])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.full((1, inputs), largest[0], np.uint8)})
    return bool(np.all(y == inputs * largest[0] * largest[1]))


def rounding(machine: str = platform.machine()) -> str:
    """Name what decides how float32 is rounded here: architecture, NumPy's kernels, and which ONNX Runtime takes."""
    libraries = threadpoolctl.threadpool_info()
    kernels = sorted({each["architecture"] for each in libraries if each["internal_api"] == "openblas"})
    return ", ".join([machine, *kernels, "int8 dot product" if has_int8_dot_product() else "no int8 dot product"])


def model_name(cpuinfo: pathlib.Path = _CPUINFO) -> str:
    """Return the processor's name."""
    return next(iter(_values(cpuinfo, {"model name"})), platform.processor() or platform.machine())


def _values(cpuinfo: pathlib.Path, names: set[str]) -> list[str]:
    if not cpuinfo.exists():
        return []
    pairs = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() in names]
