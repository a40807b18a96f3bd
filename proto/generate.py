"""Make the committed stubs from the .proto files: `python proto/generate.py`.

Every plugin is local and pinned: protoc and the Python plugins come with grpcio-tools (the Python lock), the Go plugins
from go-gateway's `tool` directives. Rust's stubs are not committed: its `contract` crate makes them when it is built.
"""

import importlib.resources
import os
import pathlib
import shutil
import subprocess
import tempfile

from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parent
ROOT = PROTO.parent
PYTHON_HOME = ROOT / "python-research/src"
GO_HOME = ROOT / "go-gateway/internal/pb"
GO_PLUGINS = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}


def go_module() -> str:
    text = (ROOT / "go-gateway/go.mod").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith("module "))


def build_go_plugins(folder: str) -> list[str]:
    """Build the plugins that go.mod pins; return protoc's flags for them."""
    flags = []
    for name, package in GO_PLUGINS.items():
        path = pathlib.Path(folder, name)
        subprocess.run(["go", "build", "-o", path, package], cwd=ROOT / "go-gateway", check=True)
        flags.append(f"--plugin={name}={path}")
    return flags


def main() -> None:
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("triptych/**/*.proto"))
    # The gateway knows requests, not bundles.
    gateway_sources = [source for source in sources if source.startswith("triptych/inference/")]
    includes = [f"-I{PROTO}", f"-I{importlib.resources.files('grpc_tools') / '_proto'}"]
    # From empty: a stub whose .proto is gone must go too.
    shutil.rmtree(PYTHON_HOME / "triptych", ignore_errors=True)
    shutil.rmtree(GO_HOME, ignore_errors=True)
    GO_HOME.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        python = [f"--python_out={PYTHON_HOME}", f"--pyi_out={PYTHON_HOME}", f"--grpc_python_out={PYTHON_HOME}"]
        module = f"module={go_module()}/internal/pb"
        go = [f"--go_out={GO_HOME}", f"--go_opt={module}", f"--go-grpc_out={GO_HOME}", f"--go-grpc_opt={module}"]
        for arguments in (python + sources, build_go_plugins(folder) + go + gateway_sources):
            if protoc.main(["protoc", *includes, *arguments]):
                raise SystemExit("protoc failed")
    for path in PYTHON_HOME.glob("triptych/**/*_pb2_grpc.py"):
        if "class " not in path.read_text():  # a file without services
            path.unlink()
    for folder, _, _ in os.walk(PYTHON_HOME / "triptych"):
        pathlib.Path(folder, "__init__.py").touch()


if __name__ == "__main__":
    main()
