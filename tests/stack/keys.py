"""API keys of the demo tenants. A key is shown once, so they are written down beside the stack that knows them."""

import json
import pathlib
from collections.abc import Callable

from stack.waiting import StackError

TENANT_NAMES = ("acme", "globex", "tiny")

# Runs `gateway keys …` with some arguments and returns what it prints; raises StackError when it fails.
KeysCommand = Callable[[list[str]], str]


def demo_keys(keys: KeysCommand, saved: pathlib.Path) -> dict[str, str]:
    """Return a key for each demo tenant: those written down, if the gateway still knows them all, else new ones."""
    try:
        known = keys(["list"])
        written: dict[str, str] = json.loads(saved.read_text())
    except (StackError, FileNotFoundError, ValueError):
        known, written = "", {}
    if set(written) == set(TENANT_NAMES) and all(key_id(key) in known for key in written.values()):
        return written
    created = {tenant: keys(["create", f"--tenant={tenant}"]).strip() for tenant in TENANT_NAMES}
    saved.parent.mkdir(parents=True, exist_ok=True)
    saved.touch(mode=0o600)
    saved.write_text(json.dumps(created))
    return created


def key_id(key: str) -> str:
    """The public part of a key, which names it in lists and logs."""
    return key.split("_")[1]
