"""The demo's tenants with plans of the benchmarks' own."""

import json
import pathlib
from collections.abc import Mapping

from stack.keys import TENANT_NAMES

ROOMY = {"requests_per_minute": 600_000}


def write(folder: pathlib.Path, plans: Mapping[str, Mapping[str, object]]) -> Mapping[str, str]:
    """Write a tenants file, and return the gateway's setting for it: `plans` is by tenant, the others' is roomy."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tenants.yaml"
    content = {
        "plans": {name: plans.get(name, ROOMY) for name in TENANT_NAMES},
        "tenants": {name: {"plan": name} for name in TENANT_NAMES},
    }
    path.write_text(json.dumps(content))  # JSON is YAML
    return {"tenants-file": str(path)}
