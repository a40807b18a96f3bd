"""`make litellm`: installs LiteLLM's proxy, as the peer that the benchmarks compare the gateway with.

It has a virtual environment of its own, outside of the checkout, where every checkout finds it: nothing else ever
imports it, and nothing of it is shipped. Its parts outside of the folder `enterprise` are under the MIT licence.
"""

import hashlib
import pathlib
import re
import shutil
import subprocess
import sys

from rich.console import Console

from bench.installed import CACHE, install_once
from stack.waiting import StackError

REQUIREMENTS = pathlib.Path(__file__).parent / "gateway/litellm.txt"
VERSION = re.findall(r"^litellm==(\S+)", REQUIREMENTS.read_text(), re.M)[0]
RECIPE = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
FOLDER = CACHE / f"litellm-{VERSION}-{RECIPE[:8]}"
# Not `bin/litellm`: that has the path of the folder in which it was installed.
PROGRAM = FOLDER / "bin/python"
COMMAND = (str(PROGRAM), "-c", "from litellm import run_server; run_server()")


def main() -> None:
    install_once(FOLDER, PROGRAM, install)


def install(console: Console) -> None:
    """Install what is pinned with pip, which knows the user's index, proxy and certificates. Raises StackError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = FOLDER.with_name(f"{FOLDER.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with console.status(f"Installing LiteLLM's proxy {VERSION}"):
        _run([sys.executable, "-m", "venv", str(unfinished)])
        pip = [str(unfinished / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(REQUIREMENTS)])
        unfinished.rename(FOLDER)


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StackError(f"LiteLLM's proxy could not be installed: {result.stderr.strip()}")


if __name__ == "__main__":
    main()
