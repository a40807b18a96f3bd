"""What this machine's processor is, and whether it is made for int8."""

import pathlib
import platform

# The flags of /proc/cpuinfo that say "multiplies and sums 8-bit integers in one instruction", on x86 and Arm.
_INT8_DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "asimddp"}
_CPUINFO = pathlib.Path("/proc/cpuinfo")


def has_int8_dot_product(cpuinfo: pathlib.Path = _CPUINFO) -> bool:
    """Tell whether the processor has CPU_FEATURE_INT8_DOT_PRODUCT; no where the system does not say."""
    return any(_INT8_DOT_PRODUCT & set(value.split()) for value in _values(cpuinfo, {"flags", "Features"}))


def model_name(cpuinfo: pathlib.Path = _CPUINFO) -> str:
    """Return the processor's name."""
    return next(iter(_values(cpuinfo, {"model name"})), platform.processor() or platform.machine())


def _values(cpuinfo: pathlib.Path, names: set[str]) -> list[str]:
    if not cpuinfo.exists():
        return []
    pairs = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() in names]
