"""The simulator, a program of the hot path's workspace: scenarios in, reports out."""

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stack.description import ROOT
from stack.waiting import StackError

# Where cargo puts it.
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "rust-hotpath/target")) / "release/simulate"
COSTS = ROOT / "rust-hotpath/crates/simulation/costs.json"

Report = Mapping[str, Any]


def simulate(
    scenarios: Sequence[Mapping[str, Any]],
    *,
    costs: pathlib.Path = COSTS,
    traffic: pathlib.Path | None = None,
    program: pathlib.Path = PROGRAM,
) -> Iterator[Report]:
    """The report of each scenario, as soon as it is there. Raises StackError when the program does not like one."""
    if not program.exists():
        raise StackError(f"{program} is not built: run `make build`")
    arguments = [f"--costs={costs}"] + ([f"--traffic={traffic}"] if traffic else [])
    with subprocess.Popen(
        [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            for scenario in scenarios:
                process.stdin.write(json.dumps(scenario) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise StackError(process.stderr.read().strip() or f"it ended with {process.wait()}")
                yield json.loads(line)
        finally:
            process.stdin.close()
