"""`make test-arm64`: the tests of last bits, and tiny models end to end, on an emulated arm64 processor.

Nothing is installed. What runs there lies in .cache/arm64, to be thrown away at any time: packages of Debian, fetched
by an apt with folders of its own, their signatures checked, and the wheels of the research package's lock file.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
from typing import Any

from stack.description import ROOT

HOME = ROOT / ".cache/arm64"
SYSROOT, WHEELS, PYTHON = HOME / "root", HOME / "wheels", HOME / "python"
LIBRARY = WHEELS / "onnxruntime/capi"
TARGET = "aarch64-unknown-linux-gnu"
BUILT = ROOT / "rust-hotpath/target" / TARGET
HOTPATH, KERNELS = BUILT / "debug/hotpath", BUILT / "release/libhotpath_kernels_ort.so"

EMULATOR = "qemu-aarch64"
LINKER = "aarch64-linux-gnu-gcc"
DEBIAN, RELEASE, PYTHON_VERSION = "http://deb.debian.org/debian", "bookworm", "3.11"
KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = [f"python{PYTHON_VERSION}", f"libpython{PYTHON_VERSION}-stdlib", "libstdc++6", "libgomp1"]
# The oldest and the newest system that the wheels may be made for, as pip names it.
PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37))]
TEST_PACKAGES = {"pytest", "pytest-timeout", "hypothesis", "iniconfig", "pluggy", "sortedcontainers"}

# All of the gateway would take an hour; these count, hash, and read bytes from outside.
GO_PACKAGES = [f"./internal/{name}" for name in ("config", "identity", "openai", "quota", "strictjson")]

# What such a processor says of itself. The emulator answers programs that ask the processor; ONNX Runtime also reads
# /proc/cpuinfo, where it would find the host's and fall over.
FEATURES = {
    "neoverse-n1": "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    "cortex-a72": "fp asimd aes pmull sha1 sha2 crc32 cpuid",
}
CPU = os.environ.get("ARM64_CPU", "neoverse-n1")  # the other has no dot product


def emulated(program: pathlib.Path) -> list[str]:
    """The command that runs a program of the sysroot's kind."""
    return [EMULATOR, "-cpu", CPU, "-L", str(SYSROOT), str(program)]


def main() -> None:
    if missing := needs():
        raise SystemExit("test-arm64: NOT RUN: it needs " + "; ".join(missing))
    prepare()
    (library,) = LIBRARY.glob("libonnxruntime.so.*")
    rust = {
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER": LINKER,
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER": f"{EMULATOR} -cpu {CPU} -L {SYSROOT}",
        "CARGO_PROFILE_DEV_DEBUG": "0",  # half of the disk that a build takes
        "HOTPATH_ONNXRUNTIME_LIBRARY": str(library),
        "TRIPTYCH_PYTHON": str(PYTHON),
        "TRIPTYCH_EMULATED": "arm64",
    }
    go = {"GOARCH": "arm64", "CGO_ENABLED": "0"}
    for folder, variables, command in (
        ("rust-hotpath", rust, f"cargo build --locked --release --package hotpath-kernels-ort --target {TARGET}"),
        ("python-research", {"TRIPTYCH_EMULATOR": EMULATOR}, f"{PYTHON} -m pytest -m bits --timeout=1200"),
        ("rust-hotpath", rust, f"cargo clippy --locked --workspace --all-targets --target {TARGET} -- -D warnings"),
        ("rust-hotpath", rust, f"cargo test --locked --workspace --target {TARGET} bits"),
        ("rust-hotpath", rust, f"cargo build --locked --package hotpath-server --target {TARGET}"),
        ("tests", {"TRIPTYCH_EMULATED": "arm64"}, f"{sys.executable} -m pytest processors"),
        ("go-gateway", go, "go vet ./..."),
        ("go-gateway", go, f"go test -exec {EMULATOR} {' '.join(GO_PACKAGES)}"),
    ):
        print(f"{folder}: {command}", flush=True)
        run(shlex.split(command), cwd=ROOT / folder, env={**os.environ, **variables})


def prepare() -> None:
    marker = HOME / ".made"
    if not marker.exists():
        shutil.rmtree(HOME, ignore_errors=True)
        SYSROOT.mkdir(parents=True)
        unpack_debian()
        install_wheels()
        marker.touch()
    describe_processor()
    write_wrapper()


def needs() -> list[str]:
    """What is missing, and where it comes from on Debian."""
    if CPU not in FEATURES:
        return [f"ARM64_CPU to be one of {', '.join(FEATURES)}"]
    programs = {
        EMULATOR: "qemu-user",
        "apt-get": "Debian or Ubuntu",
        "dpkg-deb": "Debian or Ubuntu",
        LINKER: "gcc-aarch64-linux-gnu",
        "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    }
    missing = [f"{name} ({package})" for name, package in programs.items() if not shutil.which(name)]
    if not KEYRING.exists():
        missing.append(f"{KEYRING} (debian-archive-keyring)")
    rust = ["rustc", "--print", "target-libdir", "--target", TARGET]
    found = subprocess.run(rust, cwd=ROOT / "rust-hotpath", capture_output=True, text=True, check=False)
    if found.returncode or not pathlib.Path(found.stdout.strip()).is_dir():
        missing.append(f"Rust's libraries for it (rustup target add {TARGET})")
    return missing


def unpack_debian() -> None:
    apt = HOME / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "sources"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()  # of a system with no package at all
    lines = ["Types: deb", f"URIs: {DEBIAN}", f"Suites: {RELEASE}", "Components: main", f"Signed-By: {KEYRING}"]
    (apt / "sources/debian.sources").write_text("\n".join(lines) + "\n")
    options = {
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": apt / "sources",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",  # the folders are ours alone
        "Debug::NoLocking": "1",  # so root need not run it
    }
    command = ["apt-get", "--quiet", "--yes", *(f"-o{name}={value}" for name, value in options.items())]
    run([*command, "update"])
    run([*command, "install", "--download-only", "--no-install-recommends", *PACKAGES])
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        run(["dpkg-deb", "--extract", str(package), str(SYSROOT)])
    shutil.rmtree(apt)


def install_wheels() -> None:
    tests = HOME / "tests.txt"
    blocks = (ROOT / "tests/requirements.txt").read_text().replace("\\\n", "\\\0").splitlines()
    wanted = [block for block in blocks if block.split("==")[0] in TEST_PACKAGES]
    tests.write_text("\n".join(wanted).replace("\0", "\n") + "\n")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--python-version", PYTHON_VERSION, "--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    requirements = [str(ROOT / "python-research/requirements.txt"), str(tests)]
    run([*command, "--target", str(WHEELS), *(f"--requirement={file}" for file in requirements)])


def describe_processor() -> None:
    told = {"Features": FEATURES[CPU], "CPU implementer": "0x41", "CPU architecture": "8", "CPU part": "0xd0c"}
    (SYSROOT / "proc").mkdir(exist_ok=True)
    cores = ({"processor": str(core), **told} for core in range(os.cpu_count() or 1))
    text = "\n".join("".join(f"{name}\t: {value}\n" for name, value in core.items()) for core in cores)
    (SYSROOT / "proc/cpuinfo").write_text(text)


def write_wrapper() -> None:
    """A Python for arm64 that a program can start by its name alone, as one that starts itself again does."""
    paths = [ROOT / "python-research/src", ROOT / "python-research/tests", WHEELS]
    variables = {
        "PYTHONHOME": SYSROOT / "usr",
        "PYTHONDONTWRITEBYTECODE": 1,
        "PYTHONPATH": ":".join(map(str, paths)),
        "TRIPTYCH_KERNELS": KERNELS,
    }
    settings = " ".join(f"-E {name}={value}" for name, value in variables.items())
    program = SYSROOT / f"usr/bin/python{PYTHON_VERSION}"
    PYTHON.write_text(f'#!/bin/sh\nexec {EMULATOR} -cpu {CPU} -0 "$0" -L {SYSROOT} {settings} {program} "$@"\n')
    PYTHON.chmod(0o755)


def run(command: list[str], **options: Any) -> None:
    if (status := subprocess.run(command, stdin=subprocess.DEVNULL, check=False, **options).returncode) != 0:
        raise SystemExit(f"test-arm64: {shlex.join(command)} ended with status {status}")


if __name__ == "__main__":
    main()
