"""`make doctor`: what this machine has of what the two commands need, before anything is built.

Any Python 3 can run it, without any package: it may be what is missing.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FINE, POOR, MISSING = "ok", "note", "MISSING"
GIB = 1 << 30
LEAST_DISK_GIB = 12  # the tools' own caches included, tests' builds too
LEAST_MEMORY_GIB = 6  # of which the linker and an export take most
PORTS = {
    8080: "PORT",
    50051: "GRPC_PORT",
    9464: "GATEWAY_METRICS_PORT",
    9465: "HOTPATH_METRICS_PORT",
    9466: "ADMIN_PORT",
}
COMMAND_LIMIT_S = 20
# As /proc/cpuinfo and ARM call what the models' graphs are chosen by, best first.
CLASSES = [
    ("amx_int8", "AMX"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512f", "AVX-512 without VNNI"),
    ("avx2", "AVX2"),
    ("asimddp", "NEON with dot products"),
]


class Finding:
    """One line of the report."""

    def __init__(self, mark: str, what: str, found: str, advice: str = "") -> None:
        self.mark, self.what, self.found, self.advice = mark, what, found, advice


def version(text: str) -> tuple[int, ...]:
    """The first version in a text; () without one."""
    match = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def wanted(file: str, pattern: str) -> str:
    """A version that a file of the repository asks for."""
    match = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.M)
    if match is None:
        raise SystemExit(f"{file} does not say which version it needs")
    return match.group(1)


def said(*command: str) -> str:
    """What a command prints; nothing where it is not there or fails."""
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.decode(errors="replace").strip() if result.returncode == 0 else ""


def program(what: str, needed: str, output: str, advice: str, *, optional: bool = False) -> Finding:
    """A program of some version."""
    absent = POOR if optional else MISSING
    if not output:
        return Finding(absent, what, "not found", advice)
    found = ".".join(str(part) for part in version(output)) or output.splitlines()[0]
    if version(output)[: len(version(needed))] < version(needed):
        return Finding(absent, what, f"{found}; {needed} or newer is needed", advice)
    return Finding(FINE, what, found)


def system() -> Finding:
    """The operating system: ONNX Runtime has wheels for Linux, and for macOS 14 on Apple's own processors."""
    name = f"{platform.system()} {platform.machine()}"
    if platform.system() == "Linux" and platform.machine() in {"x86_64", "aarch64"}:
        return Finding(FINE, "system", name)
    if platform.system() == "Darwin" and platform.machine() == "arm64" and version(platform.mac_ver()[0]) >= (14,):
        return Finding(POOR, "system", name, "The stack is expected to run. The tests need Linux.")
    advice = "ONNX Runtime has no package for it: take Linux (x86-64 or arm64), or macOS 14 on Apple's own processors."
    return Finding(MISSING, "system", name, advice)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """The class of the processor, by which graphs are chosen."""
    if not cpuinfo.exists():
        return Finding(FINE, "processor", platform.processor() or platform.machine())
    words = set(re.findall(r"\w+", cpuinfo.read_text(encoding="utf-8", errors="replace")))
    for flag, name in CLASSES:
        if flag in words:
            slow = name in {"AVX2", "AVX-512 without VNNI"}
            advice = "It works; 8-bit products have no instruction of their own, so models are slower." if slow else ""
            return Finding(FINE, "processor", name, advice)
    return Finding(POOR, "processor", "none of the classes that this was tried on", "x86-64 needs AVX2.")


def tools() -> list[Finding]:
    """Compilers and the like."""
    go, rust = wanted("go-gateway/go.mod", r"^go (\S+)"), wanted("rust-hotpath/Cargo.toml", r'^rust-version = "(\S+)"')
    python = wanted("python-research/pyproject.toml", r'^requires-python = ">=(\S+)"')
    has_venv = bool(said(sys.executable, "-c", "import ensurepip, venv; print('there')"))
    compiler = said(os.environ.get("CC", "cc"), "--version")
    # rustup fetches the version that rust-toolchain.toml names, so any version of it will do.
    fetches = bool(shutil.which("rustup"))
    return [
        program("python", python, sys.version, "PYTHON=python3.12 make … takes another one; https://www.python.org"),
        Finding(FINE, "venv", "there")
        if has_venv
        else Finding(MISSING, "venv", "not found", "Debian, Ubuntu: apt-get install python3-venv"),
        program("go", go, said("go", "version"), "https://go.dev/dl"),
        Finding(FINE, "rust", "rustup")
        if fetches
        else program("rust", rust, said("cargo", "--version"), "https://rustup.rs"),
        program(
            "c compiler",
            "0.0",
            compiler,
            "Debian, Ubuntu: apt-get install build-essential; macOS: xcode-select --install",
        ),
        program("curl", "7.0", said("curl", "--version"), "apt-get install curl"),
        program(
            "git", "2.0", said("git", "--version"), "Without it the repository's own tests cannot run.", optional=True
        ),
        program(
            "node", "20.0", said("node", "--version"), "Without it the JavaScript SDK is not tested.", optional=True
        ),
        program("docker compose", "2.0", said("docker", "compose", "version"), "For `make up` alone.", optional=True),
    ]


def room() -> list[Finding]:
    """Disk and memory."""
    disk = shutil.disk_usage(ROOT).free / GIB
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    findings = []
    for what, has, least in (("disk", disk, LEAST_DISK_GIB), ("memory", memory, LEAST_MEMORY_GIB)):
        mark = FINE if has >= least else POOR
        advice = "" if has >= least else f"{least} GiB are wanted, with all tests."
        findings.append(Finding(mark, what, f"{has:.0f} GiB", advice))
    return findings


def network() -> list[Finding]:
    """Ports, and what stands between this machine and others."""
    taken = []
    for port, variable in PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(f"{port} ({variable}=…)")
    proxies = sorted(name for name in os.environ if name.lower() in {"http_proxy", "https_proxy", "all_proxy"})
    return [
        Finding(POOR, "ports", "taken: " + ", ".join(taken), "The variable takes another one.")
        if taken
        else Finding(FINE, "ports", "free: " + ", ".join(str(port) for port in PORTS)),
        Finding(
            FINE,
            "proxy",
            ", ".join(proxies) or "none",
            "This machine itself is never asked through it." if proxies else "",
        ),
    ]


def main() -> None:
    findings = [system(), processor(), *tools(), *room(), *network()]
    for each in findings:
        print(f"{each.mark:>8}  {each.what:<15} {each.found}")
        if each.advice:
            print(f"{'':>26}{each.advice}")
    missing = [each.what for each in findings if each.mark == MISSING]
    if missing:
        raise SystemExit(f"doctor: missing: {', '.join(missing)}")


if __name__ == "__main__":
    main()
