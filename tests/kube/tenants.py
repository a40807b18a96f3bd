"""A gateway whose tenants are Tenants, with its admin API behind a proxy, and the operator's binary."""

import base64
import json
import pathlib
from collections.abc import Callable
from typing import Any

import httpx

from kube.api import ApiServer
from kube.chart import RELEASE, Object
from kube.models import condition
from kube.operator import Operator
from stack.loopback import HOST, free_port
from stack.native import NativeStack, Ports
from stack.proxy import Proxy
from stack.waiting import StackError, wait_until

# As the chart names them.
PLANS, FILE = f"{RELEASE}-plans", f"{RELEASE}-tenants-file"
SMALL = "plans:\n  small: {requests_per_minute: 600_000}\n"
LIMIT_S = 60


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def plans(text: str = SMALL) -> Object:
    return config_map(PLANS, **{"plans.yaml": text})


def tenant(name: str, plan: str = "small", secret: str = "", **key: Any) -> Object:
    spec: Object = {"plan": plan}
    if secret:
        spec["key"] = {"secretName": secret, **key}
    return {"apiVersion": "triptych.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": spec}


def secret(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}


def id_of(key: str) -> str:
    return key.split("_")[1]


class Place:
    """The gateway mounts the ConfigMap when a test carries it there, as a kubelet does within a minute."""

    def __init__(self, server: ApiServer, folder: pathlib.Path, token: str | None = None) -> None:
        self.server = server
        self.seen: set[str] = set()  # every key that was in a Secret
        self._file = folder / "tenants.yaml"
        admin = free_port()
        self.stack = NativeStack(
            folder,
            ports=Ports(admin=admin),
            hotpath_address=f"{HOST}:{free_port()}",  # nobody: keys are known without a hot path
            gateway={"tenants-file": str(self._file)},
        )
        self.proxy = Proxy(f"{HOST}:{admin}")
        described = self.stack.folder / "admin-token"
        described.touch(mode=0o600)
        described.write_text("0123456789abcdef" * 4)
        self.token_file = described.absolute()
        server.apply(plans())
        self.operator = Operator(server, folder, *self.arguments(), token=token)

    def arguments(self) -> list[str]:
        return [
            f"--tenants={FILE}",
            f"--plans={PLANS}",
            f"--admin-url=http://{self.proxy.address}",
            f"--admin-token-file={self.token_file}",
        ]

    def start(self) -> None:
        self.operator.start()
        wait_until("the tenants file", self.carry, LIMIT_S)
        self.stack.start_gateway()

    def end(self) -> None:
        """Nothing is left behind, whatever state it is in."""
        self.operator.kill()
        self.stack.stop()
        self.proxy.stop()
        for one in self.server.list("triptych.dev/v1alpha1", "Tenant"):
            self.server.change(one, {"metadata": {"finalizers": None}})
            self.server.delete(one)
        for one in self.server.list("v1", "Secret", "triptych.dev/tenant"):
            self.server.delete(one)
        for name in (PLANS, FILE):
            self.server.delete(config_map(name))

    def carry(self) -> bool:
        """What a kubelet does: the ConfigMap's file in its place."""
        found = self.server.find(config_map(FILE))
        if found is None:
            return False
        fresh = self._file.with_suffix(".new")
        fresh.write_text(found["data"]["tenants.yaml"])
        fresh.rename(self._file)
        return True

    def until(self, one: Object, what: str, is_so: Callable[[Any], Any], *, carried: bool = True) -> Any:
        """Wait until a Tenant is so, and return it; the error says how it is."""

        def probe() -> Any:
            if carried:
                self.carry()
            found = self.server.get(one)
            return found if is_so(found) else None

        try:
            return wait_until(f"{one['metadata']['name']} {what}", probe, LIMIT_S, poll_s=0.1)
        except StackError as error:
            raise StackError(f"{error}: {self.server.get(one).get('status')}\n{self.operator.log()[-3000:]}") from error

    def until_ready(self, one: Object) -> Any:
        return self.until(one, "is ready", is_ready)

    def until_told(self, one: Object, reason: str, *, carried: bool = True) -> str:
        """The message of the condition, once it has a reason."""
        found = self.until(one, reason, lambda found: condition(found, "Ready")["reason"] == reason, carried=carried)
        assert condition(found, "Ready")["status"] == ("True" if reason == "Ready" else "False")
        return str(condition(found, "Ready")["message"])

    def keys(self, name: str) -> dict[str, str]:
        """What a Secret has, by field."""
        found = self.server.find(secret(name))
        read = {field: base64.b64decode(value).decode() for field, value in ((found or {}).get("data") or {}).items()}
        self.seen |= set(read.values())
        return read

    def works(self, key: str) -> bool:
        """Whether the gateway knows a key, which it does within a second."""
        url = f"http://{self.stack.addresses['http']}/v1/limits"
        return httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=10).status_code == 200

    def until_works(self, key: str, *, works: bool = True) -> None:
        wait_until(f"the key works: {works}", lambda: self.works(key) == works, 10)

    def made(self, tenant: str) -> list[Any]:
        """All keys of a tenant that the gateway has made, asked for past the proxy."""
        headers = {"Authorization": f"Bearer {self.token_file.read_text().strip()}"}
        url = f"http://{self.stack.addresses['admin']}/admin/v1/keys?tenant={tenant}"
        reply = httpx.get(url, headers=headers, timeout=10)
        assert reply.status_code == 200, reply.text
        found: list[Any] = reply.json()["data"]
        return found

    def living(self, tenant: str) -> set[str]:
        """The ids of those that have no end."""
        return {key["id"] for key in self.made(tenant) if key["revoked"] is None and key["expires"] is None}

    def all_told(self) -> str:
        """Everything that is written where people and programs read, but Secrets."""
        kinds = [("triptych.dev/v1alpha1", "Tenant"), ("events.k8s.io/v1", "Event"), ("v1", "ConfigMap")]
        objects = [one for version, kind in kinds for one in self.server.list(version, kind)]
        logs = [path.read_text(errors="replace") for path in self.stack.folder.glob("*.log")]
        return "\n".join([*(json.dumps(one) for one in objects), *logs, self.operator.metrics()])


def is_ready(found: Any) -> bool:
    told = condition(found, "Ready")
    return bool(told["status"] == "True" and told["observedGeneration"] == found["metadata"]["generation"])
