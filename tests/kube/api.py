"""A real API server of a test's own, with etcd behind it and no nodes: what it takes, a cluster would take."""

import json
import pathlib
import ssl
import subprocess
from typing import Any

import httpx

from kube.chart import NAMESPACE, RELEASE, Object
from stack.loopback import HOST, free_port
from stack.waiting import wait_until

START_LIMIT_S = 60
TOKEN = "operator"  # of a server that lives for a test
ACCOUNT_TOKEN = "account"  # of the operator's service account, which may do what roles say
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-operator"
GROUPS = f"system:serviceaccounts,system:serviceaccounts:{NAMESPACE},system:authenticated"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [ACCOUNT]}, {"level": "None"}],
}


class Answer(Exception):  # noqa: N818
    """What the server says of what it does not take."""


class ApiServer:
    def __init__(self, etcd: str, program: str, folder: pathlib.Path) -> None:
        self._folder = folder
        client, peer, port = free_port(), free_port(), free_port()
        subprocess.run(["openssl", "genrsa", "-out", folder / "accounts.key", "2048"], check=True, capture_output=True)
        accounts = f'{TOKEN},operator,operator,system:masters\n{ACCOUNT_TOKEN},{ACCOUNT},account,"{GROUPS}"\n'
        (folder / "tokens.csv").write_text(accounts)
        (folder / "audit.json").write_text(json.dumps(AUDIT))
        self._commands = {
            "etcd": [
                etcd,
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls=http://{HOST}:{client}",
                f"--advertise-client-urls=http://{HOST}:{client}",
                f"--listen-peer-urls=http://{HOST}:{peer}",
                "--unsafe-no-fsync",
            ],
            "kube-apiserver": [
                program,
                f"--etcd-servers=http://{HOST}:{client}",
                f"--secure-port={port}",
                f"--bind-address={HOST}",
                "--endpoint-reconciler-type=none",
                f"--cert-dir={folder / 'pki'}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                f"--audit-policy-file={folder / 'audit.json'}",
                f"--audit-log-path={folder / 'audit.log'}",
                "--anonymous-auth=false",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={folder / 'accounts.key'}",
                f"--service-account-signing-key-file={folder / 'accounts.key'}",
                "--service-cluster-ip-range=10.0.0.0/24",
                # Nobody makes accounts here: that is a controller's work.
                "--disable-admission-plugins=ServiceAccount",
            ],
        }
        self._certificate = folder / "pki/apiserver.crt"
        self._url = f"https://{HOST}:{port}"
        self._http: httpx.Client | None = None
        self._running: list[subprocess.Popen[bytes]] = []
        self._places: dict[tuple[str, str], str] = {}

    def __enter__(self) -> "ApiServer":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._http:
            self._http.close()
        for child in reversed(self._running):
            child.terminate()
            child.wait()

    def stop(self) -> None:
        """End the server itself: what it has written is in etcd. At SIGTERM it would let watches go on for a minute."""
        server = self._running.pop()
        server.kill()
        server.wait()

    def start_again(self) -> None:
        """After stop, at the same address, with the same certificate, for the same client."""
        self._run("kube-apiserver")
        wait_until("the API server", self._ready, START_LIMIT_S, poll_s=0.2)

    def _run(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            command = self._commands[name]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder)
        self._running.append(child)

    def _start(self) -> None:
        for name in self._commands:
            self._run(name)
        wait_until("the API server's certificate", self._trusted, START_LIMIT_S)
        wait_until("the API server", self._ready, START_LIMIT_S, poll_s=0.2)

    def _check_alive(self) -> None:
        for name, child in zip(self._commands, self._running, strict=True):
            assert child.poll() is None, (self._folder / f"{name}.log").read_text()[-2000:]

    def _trusted(self) -> bool:
        self._check_alive()
        try:
            context = ssl.create_default_context(cafile=self._certificate)
        except OSError:  # there is none yet, or half of one
            return False
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._http = httpx.Client(base_url=self._url, verify=context, headers=headers, timeout=START_LIMIT_S)
        return True

    def _ready(self) -> bool:
        self._check_alive()
        assert self._http is not None
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def for_helm(self) -> list[str]:
        """What Helm is to be told of the server."""
        return [f"--kube-apiserver={self._url}", f"--kube-token={TOKEN}", f"--kube-ca-file={self._certificate}"]

    def kubeconfig(self, token: str | None = None) -> str:
        """What programs are told that read such a file: of a user of the server's, whom its token names."""
        one = {"name": "tests"}
        cluster = {"server": self._url, "certificate-authority": str(self._certificate)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "clusters": [{**one, "cluster": cluster}],
                "users": [{**one, "user": {"token": token or TOKEN}}],
                "contexts": [{**one, "context": {"cluster": "tests", "user": "tests"}}],
            }
        )

    def asked(self) -> list[Any]:
        """What the operator's service account has asked for, as the audit log has it."""
        return [json.loads(line) for line in (self._folder / "audit.log").read_text().splitlines()]

    def version(self) -> str:
        version: str = self._ask("GET", "/version", None)["gitVersion"]
        return version

    def create(self, one: Object) -> None:
        """Make an object for good."""
        self._ask("POST", self._place(one), one)

    def get(self, one: Object) -> Any:
        """What the server has under an object's name."""
        return self._ask("GET", f"{self._place(one)}/{one['metadata']['name']}", None)

    def find(self, one: Object) -> Any | None:
        """The same; None if there is none."""
        try:
            return self.get(one)
        except Answer as answer:
            if str(answer).startswith("404"):
                return None
            raise

    def list(self, version: str, kind: str, labels: str = "") -> list[Any]:
        """All objects of a kind in the namespace, or those with some labels."""
        place = self._place({"apiVersion": version, "kind": kind})
        items: list[Any] = self._ask("GET", place, None, labelSelector=labels)["items"]
        return [{"apiVersion": version, "kind": kind, **each} for each in items]

    def apply(self, one: Object, manager: str = "tests") -> Any:
        """Have an object be so, as far as fields are in it."""
        path = f"{self._place(one)}/{one['metadata']['name']}"
        return self._ask("PATCH", path, one, fieldManager=manager, force="true")

    def change(self, one: Object, patch: Object, part: str = "", manager: str = "tests") -> Any:
        """Change fields of an object, or of a part of it as `status`; None takes one out."""
        path = f"{self._place(one)}/{one['metadata']['name']}" + (f"/{part}" if part else "")
        return self._ask("PATCH", path, patch, kind="application/merge-patch+json", fieldManager=manager)

    def delete(self, one: Object) -> None:
        """Delete an object now. None is left behind where there is none."""
        try:
            self._ask("DELETE", f"{self._place(one)}/{one['metadata']['name']}", None, gracePeriodSeconds="0")
        except Answer as answer:
            if not str(answer).startswith("404"):
                raise

    def would_apply(self, one: Object) -> None:
        """Ask whether an object could be applied, of which no field may be unknown. Answer says why not."""
        path = f"{self._place(one)}/{one['metadata']['name']}"
        self._ask("PATCH", path, one, dryRun="All", fieldManager="tests", fieldValidation="Strict")

    def would_create(self, one: Object) -> None:
        """Ask whether an object could be made."""
        self._ask("POST", self._place(one), one, dryRun="All", fieldValidation="Strict")

    def _ask(self, method: str, path: str, one: Object | None, kind: str = "", **parameters: str) -> Any:
        assert self._http is not None, "it was not entered as a context"
        if not kind:  # of YAML, JSON is a part
            kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        reply = self._http.request(
            method,
            path,
            content=None if one is None else json.dumps(one),
            headers={"Content-Type": kind},
            params=parameters,
        )
        if reply.status_code >= 400:
            raise Answer(f"{reply.status_code}: {reply.json()['message']}")
        return reply.json()

    def _place(self, one: Object) -> str:
        """The path of an object's kind, in the namespace that it is in."""
        key = (one["apiVersion"], one["kind"])
        if key not in self._places:
            group = f"/apis/{one['apiVersion']}" if "/" in one["apiVersion"] else f"/api/{one['apiVersion']}"
            for kind in self._ask("GET", group, None)["resources"]:
                if kind["kind"] == one["kind"] and "/" not in kind["name"]:
                    inside = f"/namespaces/{NAMESPACE}" if kind["namespaced"] else ""
                    self._places[key] = f"{group}{inside}/{kind['name']}"
        return self._places[key]
