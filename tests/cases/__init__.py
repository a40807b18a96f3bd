"""The error table and the cases of bad requests, from docs/errors.md and this folder's JSON files; and harmless texts.

Knows files, not services: how a case is sent is the caller's business.
"""

import base64
import json
import pathlib
import re
from dataclasses import dataclass, field
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ERRORS_MD = HERE.parents[1] / "docs/errors.md"

# Statuses that the official SDKs repeat by themselves, unless told not to.
REPEATED_STATUSES = {408, 409, 429} | set(range(500, 600))
# Statuses that say when to come back, unless repeating cannot mend it.
BUSY_STATUSES = {409, 429, 503}


@dataclass(frozen=True)
class Reason:
    """One row of docs/errors.md."""

    name: str
    grpc_code: str | None  # None: the gateway alone says it
    http_status: int
    type: str
    code: str
    retry: bool


@dataclass(frozen=True)
class Case:
    """One bad request: see README.md for what the parts mean."""

    name: str
    reason: Reason
    needs: str | None = None
    fake: dict[str, str] = field(default_factory=dict)
    http: dict[str, Any] | None = None
    grpc: dict[str, Any] | None = None
    expect: dict[str, Any] = field(default_factory=dict)

    def body(self) -> bytes | None:
        """The bytes to send over HTTP."""
        assert self.http is not None
        if "json" in self.http:
            return json.dumps(expand(self.http["json"])).encode()
        if "body_base64" in self.http:
            return base64.b64decode(self.http["body_base64"])
        if "body" in self.http:
            text: str = expand(self.http["body"])
            return text.encode()
        return None

    def headers(self, keys: dict[str, str]) -> dict[str, str]:
        """The headers to send over HTTP, with the tenants' keys filled in."""
        assert self.http is not None
        headers = {"content-type": "application/json"} if self.body() is not None else {}
        if self.http["key"] != "none":
            headers["authorization"] = f"Bearer {keys[self.http['key']]}"
        more: dict[str, str] = self.http.get("headers", {})
        return headers | more

    def grpc_request(self) -> dict[str, Any]:
        """The gRPC request in Protobuf's JSON form."""
        assert self.grpc is not None
        request: dict[str, Any] = expand(self.grpc["request"])
        return request


def expand(value: Any) -> Any:
    """Replace each `{"$repeat": X, "times": N}` by X repeated N times."""
    if isinstance(value, list):
        return [expand(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        return value["$repeat"] * value["times"]
    return {key: expand(entry) for key, entry in value.items()}


def reasons() -> dict[str, Reason]:
    """The rows of docs/errors.md by name, in their order."""
    row = re.compile(r"^\| `([A-Z_0-9]+)` \| (\w+|–) \| (\d{3}) \| `(\w+)` \| `(\w+)` \| (yes|no) \|", re.M)
    rows = [
        Reason(name, None if grpc_code == "–" else grpc_code, int(status), kind, code, retry == "yes")
        for name, grpc_code, status, kind, code, retry in row.findall(ERRORS_MD.read_text())
    ]
    return {row.name: row for row in rows}


def load() -> list[Case]:
    """All cases, in their order."""
    table = reasons()
    cases = [case for file in sorted(HERE.glob("*.json")) for case in json.loads(file.read_text())["cases"]]
    return [Case(**{**case, "reason": table[case["reason"]]}) for case in cases]


def harmless() -> list[str]:
    """Texts that no moderation is to flag."""
    by_kind: dict[str, list[str]] = json.loads((HERE / "texts/harmless.json").read_text())
    return [text for texts in by_kind.values() for text in texts]
