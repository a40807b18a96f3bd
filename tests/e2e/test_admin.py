"""The admin API and the commands that ask it, on a gateway of one's own."""

import json
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest

from e2e import limits
from stack.description import Stack
from stack.native import GATEWAY, NativeStack
from stack.waiting import wait_until

# A change of a key counts within a second; this machine may be busy.
COUNTS_LIMIT_S = 10
SMALL = "{requests_per_minute: 60, request_burst: 2, tokens_per_day: 1000, key: {concurrent_requests: 4}}"


@pytest.fixture
def native(start_native: Callable[..., NativeStack], tmp_path: pathlib.Path) -> NativeStack:
    return start_native(gateway={"tenants-file": limits.plans(tmp_path / "plans", acme=SMALL)})


@pytest.fixture
def stack(native: NativeStack) -> Stack:
    return native.describe()


def token(stack: Stack) -> str:
    return pathlib.Path(stack.admin_token_file).read_text().strip()


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {token(stack)}"}
    with httpx.Client(base_url=f"{stack.admin_url}/admin/v1", headers=headers, timeout=60) as client:
        yield client


def status(stack: Stack, key: str) -> int:
    """Of a look at one's own limits, which is not counted."""
    return httpx.get(f"{stack.url}/v1/limits", headers={"authorization": f"Bearer {key}"}).status_code


def becomes(stack: Stack, key: str, wanted: int) -> None:
    wait_until(f"a key that gets {wanted}", lambda: status(stack, key) == wanted, COUNTS_LIMIT_S)


def explain(stack: Stack, *arguments: str, token_file: str | None = None) -> subprocess.CompletedProcess[str]:
    address = stack.admin_url.removeprefix("http://")
    settings = [f"--admin-address={address}", f"--admin-token-file={token_file or stack.admin_token_file}"]
    command = [str(GATEWAY), "limits", "explain", *arguments, *settings]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_life_of_a_key(native: NativeStack, stack: Stack, admin: httpx.Client) -> None:
    made = admin.post("/keys", json={"tenant": "globex", "lifetime_seconds": 3600})
    assert made.headers["cache-control"] == "no-store"
    first = made.json()
    assert first["expires"] - first["created"] == 3600
    becomes(stack, first["key"], 200)

    second = admin.post(f"/keys/{first['id']}/rotate", json={"overlap_seconds": 0}).json()
    assert second["tenant"] == "globex"
    becomes(stack, second["key"], 200)
    becomes(stack, first["key"], 401)
    again = admin.post(f"/keys/{first['id']}/rotate", json={})
    assert (again.status_code, again.json()["error"]["param"]) == (400, "id")
    assert second["id"] in again.json()["error"]["message"]

    revoked = admin.post(f"/keys/{second['id']}/revoke").json()
    assert revoked["revoked"]
    assert "key" not in revoked
    becomes(stack, second["key"], 401)

    listed = admin.get("/keys", params={"tenant": "globex"}).json()["data"]
    assert {key["id"] for key in listed} >= {first["id"], second["id"]}
    assert {key["tenant"] for key in listed} == {"globex"}
    acts = admin.get("/audit", params={"limit": 3}).json()["data"]
    assert [(act["act"], act["key"]) for act in acts] == [
        ("key revoked", second["id"]),
        ("key rotated", second["id"]),
        ("key created", first["id"]),
    ]
    assert all(act["by"].startswith("admin, 127.0.0.1:") for act in acts)

    everything = [native.gateway.log.read_text() if native.gateway else "", str(listed), str(acts)]
    for secret in (token(stack), first["key"].split("_")[2], second["key"].split("_")[2]):
        assert not any(secret in text for text in everything)


def test_a_key_may_be_restricted(stack: Stack, admin: httpx.Client) -> None:
    scopes = ["endpoint:/v1/embeddings", "class:batch"]
    made = admin.post("/keys", json={"tenant": "acme", "scopes": scopes}).json()
    assert made["scopes"] == scopes
    assert admin.post(f"/keys/{made['id']}/rotate", json={}).json()["scopes"] == scopes
    rotated, created = admin.get("/audit", params={"limit": 2}).json()["data"]
    assert "scopes=" + " ".join(scopes) in created["details"]
    assert f"replaces={made['id']}" in rotated["details"]
    headers = {"authorization": f"Bearer {made['key']}"}
    becomes(stack, made["key"], 200)
    assert httpx.get(f"{stack.url}/v1/models", headers=headers).status_code == 403
    for wrong in ("model", "endpoint:/v1/nothing", 1):
        refused = admin.post("/keys", json={"tenant": "acme", "scopes": [wrong]})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"].startswith("scopes")


def test_pages_have_every_entry_once(admin: httpx.Client) -> None:
    made = sorted(admin.post("/keys", json={"tenant": "tiny"}).json()["id"] for _ in range(5))
    found: list[str] = []
    after, more = "", True
    while more:
        page = admin.get("/keys", params={"tenant": "tiny", "limit": 2, "after": after}).json()
        found += [key["id"] for key in page["data"]]
        after, more = found[-1], page["has_more"]
    assert found == sorted(found)
    assert set(made) < set(found)
    assert len(found) == len(made) + 1  # the demo's own
    begins = admin.get("/keys", params={"prefix": made[0][:4]}).json()["data"]
    assert made[0] in [key["id"] for key in begins]

    acts: list[int] = []
    more = True
    while more:
        query = {"limit": 3, **({"after": acts[-1]} if acts else {})}
        page = admin.get("/audit", params=query).json()
        acts += [act["id"] for act in page["data"]]
        more = page["has_more"]
    assert acts == sorted(set(acts), reverse=True)
    assert len(acts) == 8  # three of the command line, five of ours


def test_commands_are_in_the_audit_log(native: NativeStack, admin: httpx.Client) -> None:
    key = native.keys["acme"].split("_")[1]
    (act,) = [act for act in admin.get("/audit").json()["data"] if act["key"] == key]
    assert act["act"] == "key created"
    assert act["by"].startswith("command line, user ")


def test_limits_say_why_a_tenant_was_refused(stack: Stack, admin: httpx.Client) -> None:
    with limits.client(stack, "acme") as http:
        statuses = [http.get("/v1/models").status_code for _ in range(4)]
        own = http.get("/v1/limits").json()
    assert statuses[0] == 200
    assert 429 in statuses
    key = stack.keys["acme"].split("_")[1]
    report = admin.get("/limits", params={"tenant": "acme", "key": key}).json()
    assert [row["limit"] for row in report["data"]] == [row["limit"] for row in own["data"]]
    assert report["recent_refusals"] == own["recent_refusals"]
    (binding,) = [row for row in report["data"] if row["binding"] and row["class"] == "interactive"]
    assert binding["limit"] == "requests_per_minute"

    of_tenant = admin.get("/limits", params={"tenant": "acme"}).json()
    assert {row["scope"] for row in of_tenant["data"]} == {"tenant"}
    assert of_tenant["recent_refusals"] == report["recent_refusals"]
    assert admin.get("/limits", params={"tenant": "globex"}).json()["recent_refusals"] == []
    others = admin.get("/limits", params={"tenant": "globex", "key": key})
    assert (others.status_code, others.json()["error"]["param"]) == (400, "key")

    table = explain(stack, "--tenant=acme", f"--key={key}")
    assert table.returncode == 0, table.stderr
    lines = table.stdout.splitlines()
    assert lines[0] == "tenant acme, plan acme"
    (bound,) = [line for line in lines if "interactive" in line and "<- binds" in line]
    assert bound.split()[:3] == ["requests_per_minute", "tenant", "interactive"]
    assert any("concurrent_requests  key" in line for line in lines)
    assert any(key in line and "requests_per_minute" in line for line in lines)
    assert json.loads(explain(stack, "--tenant=globex", "--json").stdout)["tenant"] == "globex"


def test_only_the_token_opens_it(native: NativeStack, stack: Stack, admin: httpx.Client) -> None:
    for credential in ({}, {"authorization": f"Bearer {stack.keys['acme']}"}, {"authorization": f"Bearer {'0' * 64}"}):
        refused = httpx.get(f"{stack.admin_url}/admin/v1/keys", headers=credential)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"
    assert httpx.get(f"{stack.url}/admin/v1/keys", headers=admin.headers).status_code == 404
    assert httpx.get(f"{stack.url}/v1/models", headers=admin.headers).status_code == 401

    # It changes while the gateway runs; a broken file changes nothing.
    old, file = token(stack), pathlib.Path(stack.admin_token_file)
    file.write_text("1" * 64)
    new = {"authorization": f"Bearer {'1' * 64}"}
    wait_until(
        "the new token",
        lambda: httpx.get(f"{stack.admin_url}/admin/v1/keys", headers=new).status_code == 200,
        COUNTS_LIMIT_S,
    )
    assert admin.get("/keys").status_code == 401
    file.write_text("too short")
    wait_until(
        "a complaint",
        lambda: any(line.get("source") == "admin token" and line["level"] == "ERROR" for line in lines(native)),
        COUNTS_LIMIT_S,
    )
    assert httpx.get(f"{stack.admin_url}/admin/v1/keys", headers=new).status_code == 200
    log = native.gateway.log.read_text() if native.gateway else ""
    assert not any(secret in log for secret in (old, "1" * 64, "too short"))


def lines(native: NativeStack) -> list[dict[str, str]]:
    return native.gateway.lines() if native.gateway else []


def test_what_is_wrong_is_named(stack: Stack, admin: httpx.Client) -> None:
    for method, path, body, param in (
        ("POST", "/keys", {"tenant": "nobody"}, "tenant"),
        ("POST", "/keys", {}, "tenant"),
        ("POST", "/keys", {"tenant": "acme", "lifetime_seconds": 0}, "lifetime_seconds"),
        ("POST", "/keys", {"tenant": "acme", "owner": "me"}, "owner"),
        ("POST", "/keys/aaaaaaaa/rotate", {}, "id"),
        ("POST", "/keys/aaaaaaaa/rotate", {"overlap_seconds": -1}, "overlap_seconds"),
        ("POST", "/keys/aaaaaaaa/revoke", None, "id"),
        ("GET", "/keys/not-an-id", None, "id"),
        ("GET", "/keys?limit=0", None, "limit"),
        ("GET", "/keys?limit=1001", None, "limit"),
        ("GET", "/keys?limit=1&limit=2", None, "limit"),
        ("GET", "/keys?prefix=%00", None, "prefix"),
        ("GET", "/keys?tenant=A", None, "tenant"),
        ("GET", "/keys?colour=red", None, "colour"),
        ("GET", "/limits", None, "tenant"),
        ("GET", "/limits?tenant=nobody", None, "tenant"),
        ("GET", "/audit?after=x", None, "after"),
    ):
        refused = admin.request(method, path, json=body) if body is not None else admin.request(method, path)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), (path, refused.text)
    large = admin.post("/keys", json={"tenant": "a" * 20_000})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")


def test_the_command_says_what_is_wrong(stack: Stack, tmp_path: pathlib.Path) -> None:
    unknown = explain(stack, "--tenant=nobody")
    assert (unknown.returncode, "nobody" in unknown.stderr) == (1, True)
    assert explain(stack).returncode == 64
    wrong = tmp_path / "token"
    wrong.touch(mode=0o600)
    wrong.write_text("2" * 64)
    refused = explain(stack, "--tenant=acme", token_file=str(wrong))
    assert (refused.returncode, "not the admin token" in refused.stderr) == (1, True)
    wrong.chmod(0o644)
    opened = explain(stack, "--tenant=acme", token_file=str(wrong))
    assert (opened.returncode, "0644" in opened.stderr) == (64, True)
    assert "2" * 64 not in refused.stderr + opened.stderr
