"""Where a running stack is: `.run/stack.json`, for scripts and for tests."""

import dataclasses
import json
import os
import pathlib
import tempfile

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN_FOLDER = pathlib.Path(os.environ.get("RUN_FOLDER", ROOT / ".run"))
STACK_JSON = RUN_FOLDER / "stack.json"


@dataclasses.dataclass(frozen=True)
class Stack:
    """A running stack as seen from outside."""

    url: str  # of the gateway's API, without a path
    grpc: str  # host:port of the hot path; empty where it is not published
    metrics_url: str  # of the gateway
    hotpath_metrics_url: str
    keys: dict[str, str]  # tenant → API key
    pids: dict[str, int]  # service → process id; empty where they are not processes of this machine
    logs: dict[str, str]  # service → log file; empty likewise
    admin_url: str = ""  # of the gateway's admin API, without a path; empty where there is none
    admin_token_file: str = ""  # holds its credential

    def write(self, path: pathlib.Path = STACK_JSON) -> None:
        """Replace the file in one step, readable by its owner alone: it holds keys."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
        with os.fdopen(handle, "w") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.write("\n")
        pathlib.Path(temporary).replace(path)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the gateway's API."""
        url = httpx.URL(self.url)
        return url.host, url.port or 80

    @classmethod
    def read(cls, path: pathlib.Path = STACK_JSON) -> "Stack":
        return cls(**json.loads(path.read_text()))
