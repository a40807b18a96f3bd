"""Runs a function on input from outside where it can be stopped: in a child process with bounds on time and memory.

For libraries that have no such bounds of their own: a chat template may loop for ever, a tokenizer's rules may make
gigabytes of a word, and what reads either may end its process. It is no sandbox: the child may do what its user may.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from triptych_research.json_fields import CheckpointError

CPU_SECONDS = 10  # the largest tokenizers that are published (262,000 tokens) take one
MEMORY_BYTES = 2 * 2**30  # of address space
WALL_SECONDS = 120  # a machine may be busy
OUTPUT_BYTES = 2**20  # of the result


def call(subject: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a module's function returns, computed in a child; arguments and result are JSON values.

    Raises CheckpointError, which names the subject, when the function does, or when it takes more than CPU_SECONDS,
    WALL_SECONDS, MEMORY_BYTES (not on macOS, which knows no such bound), or OUTPUT_BYTES for its result.
    """
    request = {
        "function": [function.__module__, function.__qualname__],
        "arguments": arguments,
        "cpu_seconds": CPU_SECONDS,
        "memory_bytes": MEMORY_BYTES,
    }
    # Files, because a pipe may fill up, and because the system bounds how large a file grows.
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered, tempfile.TemporaryFile() as said:
        asked.write(json.dumps(request, ensure_ascii=False).encode())
        asked.seek(0)
        try:
            status = subprocess.run(
                [sys.executable, "-P", "-m", __name__],
                check=False,
                stdin=asked,
                stdout=answered,
                stderr=said,
                env=_environment(),
                timeout=WALL_SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            raise CheckpointError(f"{subject}: takes more than {WALL_SECONDS} s") from None
        answered.seek(0)
        said.seek(0)
        answer, complaint = answered.read(), said.read().decode(errors="replace")
    if status == -signal.SIGXCPU:
        raise CheckpointError(f"{subject}: takes more than {CPU_SECONDS} s of processor time")
    if status < 0:
        # Rust ends the process when memory is refused, and every library when the stack is full.
        memory = f"needs more than {MEMORY_BYTES} bytes of memory"
        died = f"ends the library that reads it: {signal.Signals(-status).name}"
        raise CheckpointError(f"{subject}: {memory if 'memory allocation of' in complaint else died}")
    if status:
        raise RuntimeError(f"{subject}: exit status {status}: {complaint}")
    result = json.loads(answer)
    if "error" in result:
        raise CheckpointError(f"{subject}: {result['error']}")
    return result["result"]


def _environment() -> dict[str, str]:
    """The same modules, and one thread each, for threads take address space."""
    path = os.pathsep.join(each for each in sys.path if each)
    threads = dict.fromkeys(("RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    return {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", **threads}


def _answer() -> None:
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries write is no answer
    request = json.load(sys.stdin.buffer)
    module, name = request["function"]
    try:
        function = getattr(importlib.import_module(module), name)
        _limit(resource.RLIMIT_CPU, request["cpu_seconds"])
        _limit(resource.RLIMIT_FSIZE, OUTPUT_BYTES)
        _limit(resource.RLIMIT_CORE, 0)
        if sys.platform != "darwin":
            _limit(resource.RLIMIT_AS, request["memory_bytes"])
        answer = json.dumps({"result": function(*request["arguments"])})
    except CheckpointError as error:
        answer = json.dumps({"error": str(error)})
    except MemoryError:
        answer = json.dumps({"error": f"needs more than {request['memory_bytes']} bytes of memory"})
    except RecursionError:
        answer = json.dumps({"error": "nested too deeply"})
    if len(answer) > OUTPUT_BYTES:
        answer = json.dumps({"error": f"makes more than {OUTPUT_BYTES} bytes"})
    with os.fdopen(answers, "w") as file:
        file.write(answer)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    _answer()
