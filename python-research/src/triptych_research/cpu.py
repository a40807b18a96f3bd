"""What this machine's processor is."""

import pathlib
import platform

import threadpoolctl

_CPUINFO = pathlib.Path("/proc/cpuinfo")


def rounding(machine: str = platform.machine()) -> str:
    """Name what decides how NumPy rounds float32 here: architecture and kernels."""
    libraries = threadpoolctl.threadpool_info()
    kernels = sorted({each["architecture"] for each in libraries if each["internal_api"] == "openblas"})
    return ", ".join([machine, *kernels])


def model_name(cpuinfo: pathlib.Path = _CPUINFO) -> str:
    """Return the processor's name."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    pairs = (line.partition(":") for line in lines)
    names = (value.strip() for name, _, value in pairs if name.strip() == "model name")
    return next(names, platform.processor() or platform.machine())
