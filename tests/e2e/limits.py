"""Plans of a test's own, and what replies tell of them."""

import pathlib
import re

import httpx

from e2e.vectors import MODEL
from stack.description import Stack

GENEROUS = "{requests_per_minute: 600000}"
# The scopes of the key that cases call `restricted`.
RESTRICTIONS = ("endpoint:/v1/embeddings", "endpoint:/v1/models", f"model:{MODEL}", "class:batch")
TIMEOUT_S = 60
UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def plans(folder: pathlib.Path, **of_tenants: str) -> str:
    """Write a tenants file, in which some demo tenants have plans of their own; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    every = {"acme": GENEROUS, "globex": GENEROUS, "tiny": GENEROUS, **of_tenants}
    lines = ["plans:", *(f"  {name}: {plan}" for name, plan in every.items())]
    lines += ["tenants:", *(f"  {name}: {{plan: {name}}}" for name in every)]
    path = folder / "tenants.yaml"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def client(stack: Stack, tenant: str) -> httpx.Client:
    """Plain HTTP with a tenant's key."""
    headers = {"authorization": f"Bearer {stack.keys[tenant]}"}
    return httpx.Client(base_url=stack.url, headers=headers, timeout=TIMEOUT_S)


def embed(stack: Stack, tenant: str, text: str) -> httpx.Response:
    with client(stack, tenant) as http:
        return http.post("/v1/embeddings", json={"model": MODEL, "input": text})


def tokens_left(http: httpx.Client) -> int:
    """What is left of the tokens, by a request that costs none."""
    response = http.post("/v1/tokenize", json={"model": MODEL, "input": "a"})
    assert response.status_code == 200, response.text
    return int(response.headers["x-ratelimit-remaining-tokens"])


def used_of_the_day(http: httpx.Client) -> int:
    """Tokens that a tenant, whose plan bounds them, is charged or has held for durable work."""
    rows = http.get("/v1/limits").raise_for_status().json()["data"]
    (used,) = (row["used"] for row in rows if row["limit"] == "tokens_per_day")
    return int(used)


def seconds(duration: str) -> float:
    """A duration as headers have it, as in 1h2m3.5s."""
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", duration)
    assert "".join(f"{number}{unit}" for number, unit in parts) == duration
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)
