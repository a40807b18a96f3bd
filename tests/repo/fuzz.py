"""Every fuzz target of the gateway and of what is beside it, for some time each: `make fuzz`."""

import pathlib
import re
import subprocess
import sys

from repo.tree import ROOT, text_of, tracked_files

# Attempts to make an input smaller that reaches something new. Without a bound they take a minute for each: of a target
# that is not fast, all of its time.
MINIMIZE = "20x"

TARGET = re.compile(r"^func (Fuzz\w+)\(f \*testing\.F\)", re.M)


def targets() -> dict[str, pathlib.Path]:
    """Name → the package's folder."""
    found: dict[str, pathlib.Path] = {}
    for path in tracked_files():
        if str(path).startswith("go-gateway/") and path.name.endswith("_test.go"):
            for name in TARGET.findall(text_of(path) or ""):
                assert name not in found, f"two fuzz targets are called {name}"
                found[name] = path.parent
    return found


def main(time: str) -> None:
    for name, package in sorted(targets().items()):
        print(f"---- {name} in {package}", flush=True)
        command = [
            "go",
            "test",
            "-run=^$",
            f"-fuzz=^{name}$",
            f"-fuzztime={time}",
            f"-fuzzminimizetime={MINIMIZE}",
            ".",
        ]
        subprocess.run(command, cwd=ROOT / package, check=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
