"""The stack as processes of this machine."""

import importlib.util
import pathlib
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import grpc
import httpx
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from stack.description import ROOT, Stack
from stack.keys import demo_keys
from stack.loopback import HOST
from stack.models import wait_until_proven
from stack.process import Process
from stack.waiting import StackError, Stopped, wait_until

GATEWAY = ROOT / "go-gateway/bin/gateway"
HOTPATH = ROOT / "rust-hotpath/target/release/hotpath"
MODELS = ROOT / "models"
TENANTS = ROOT / "deploy/tenants/tenants.yaml"

# From start to ready: the bundle's hashes and golden cases are checked first. Seconds; more on a busy machine.
READY_LIMIT_S = 90


@dataclass(frozen=True)
class Ports:
    """Where to listen; 0 takes a free port."""

    http: int = 0
    grpc: int = 0
    gateway_metrics: int = 0
    admin: int = 0
    hotpath_metrics: int = 0

    @staticmethod
    def variable(name: str) -> str:
        """The environment variable, and the argument of make, that sets a port."""
        return "PORT" if name == "http" else f"{name.upper()}_PORT"

    def check_free(self) -> None:
        """Raise StackError when another program listens on one of them."""
        for name, port in vars(self).items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise StackError(
                        f"port {port} is in use by another program: stop it, or choose another port, "
                        f"as in `make run {self.variable(name)}=0` (0 takes a free one)"
                    ) from error


# Variables that ask for a free port each, in `make` and in compose.yaml alike.
FREE_PORTS = {Ports.variable(field.name): "0" for field in fields(Ports)}


class NativeStack:
    """Hot path and gateway, each of which can be stopped, killed and started again on its address."""

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        ports: Ports | None = None,
        models: pathlib.Path = MODELS,
        hotpath_address: str | None = None,
        gateway: Mapping[str, str] | None = None,
        hotpath: Mapping[str, str] | None = None,
        gateway_environment: Mapping[str, str] | None = None,
    ) -> None:
        """Keep logs and keys in `folder`.

        `gateway` and `hotpath` hold settings beyond the usual ones: flag → value. With `hotpath_address` the hot path
        is somebody else's and is not started. `gateway_environment` holds variables that are not ours.
        """
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"  # the gateway's
        self.ports = ports or Ports()
        self.ports.check_free()
        self.models = models
        self.gateway_settings = dict(gateway or {})
        self.hotpath_settings = dict(hotpath or {})
        self.gateway_program = GATEWAY
        self._gateway_environment = dict(gateway_environment or {})
        self._socket: pathlib.Path | None = None
        self.keys: dict[str, str] = {}
        self.gateway: Process | None = None
        self.hotpath: Process | None = None
        self.addresses: dict[str, str] = {"grpc": hotpath_address} if hotpath_address else {}
        self._starts_hotpath = hotpath_address is None

    # -- life

    def start(self, *, wait: bool = True, proven: bool = True, give_up: Callable[[], bool] = lambda: False) -> Stack:
        """Start everything and wait until requests succeed, unless told not to wait, or to give up.

        `proven`: wait for the golden cases that a decoder continues behind, too.
        """
        try:
            self.create_keys()
            if self._starts_hotpath:
                self.start_hotpath()
            self.start_gateway()
            if wait:
                self.wait_ready(give_up=give_up)
                if proven and self._starts_hotpath:
                    wait_until_proven(self.addresses["grpc"])
        except BaseException:
            self.stop()
            raise
        return self.describe()

    def start_hotpath(self) -> Process:
        if self._socket is None:  # not in `folder`: a socket's path has 107 bytes at most
            self._socket = pathlib.Path(tempfile.mkdtemp(prefix="hotpath-")) / "hotpath.sock"
        settings = {
            "grpc-address": self._address("grpc", self.ports.grpc),
            "grpc-socket": str(self._socket),
            "metrics-address": self._address("hotpath_metrics", self.ports.hotpath_metrics),
            "models": str(self.models),
            "onnxruntime-library": str(onnxruntime_library()),
            **self.hotpath_settings,
        }
        self.hotpath = self._serve("hotpath", HOTPATH, settings)
        self.addresses["grpc"] = self.hotpath.address("grpc")
        self.addresses["hotpath_metrics"] = self.hotpath.address("metrics")
        return self.hotpath

    def start_gateway(self) -> Process:
        settings = {
            "http-address": self._address("http", self.ports.http).replace(HOST, "localhost"),  # and [::1]
            "metrics-address": self._address("gateway_metrics", self.ports.gateway_metrics),
            "admin-address": self._address("admin", self.ports.admin),
            "admin-token-file": str(self._admin_token_file()),
            "hotpath-addresses": f"unix:{self._socket}" if self._socket else self.addresses["grpc"],
            "data": str(self.data),
            "tenants-file": str(TENANTS),
            "drain-delay": "0s",  # it is for balancers, which look at readiness before they send a request
            **self.gateway_settings,
        }
        self.gateway = self._serve("gateway", self.gateway_program, settings, self._gateway_environment)
        self.addresses["http"] = self.gateway.address("http")
        self.addresses["gateway_metrics"] = self.gateway.address("metrics")
        self.addresses["admin"] = self.gateway.address("admin")
        return self.gateway

    def replace_gateway(self) -> None:
        """Kill the gateway, and start another."""
        assert self.gateway is not None
        self.gateway.kill()
        self.start_gateway()

    def replace_hotpath(self) -> None:
        """Kill the hot path, and start another."""
        assert self.hotpath is not None
        self.hotpath.kill()
        self.start_hotpath()

    def processes(self) -> list[Process]:
        """Those that were started, in the order of a request's way."""
        return [process for process in (self.gateway, self.hotpath) if process]

    def stop(self) -> dict[str, int]:
        """Stop both, the gateway first; return the exit statuses."""
        statuses = {process.name: process.stop() for process in self.processes()}
        if self._socket:
            shutil.rmtree(self._socket.parent)
            self._socket = None
        return statuses

    def check_alive(self) -> None:
        """Raise StackError with the last log lines when a service is gone."""
        for process in self.processes():
            process.check_alive()

    # -- what it needs and tells

    def create_keys(self) -> None:
        """Make a key for each demo tenant, or take those of the last run in this folder."""
        self.keys = demo_keys(lambda arguments: self.gateway_keys(*arguments), self.folder / "demo-keys.json")

    def create_key(self, tenant: str, *scopes: str) -> str:
        """Make a key that is restricted to scopes; a running gateway knows it within a second."""
        flags = [f"--scope={scope}" for scope in scopes]
        return self.gateway_keys("create", f"--tenant={tenant}", *flags).strip()

    def gateway_keys(self, *arguments: str) -> str:
        """Run `gateway keys …`, and return what it prints."""
        return self.run_gateway("keys", *arguments)

    def run_gateway(self, *arguments: str) -> str:
        """Run a command of the gateway's on its database, and return what it prints."""
        place = {name: self.gateway_settings[name] for name in ("database-url",) if name in self.gateway_settings}
        flags = [f"--{name}={value}" for name, value in (place or {"data": str(self.data)}).items()]
        command = [*self._program(self.gateway_program), *arguments, *flags]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            what = " ".join(arguments[:2])
            raise StackError(f"`gateway {what}` ended with {result.returncode}:\n{result.stderr}")
        return result.stdout

    def wait_hotpath_ready(self) -> None:
        """Wait until the hot path serves, and no model of it is still loading."""

        def serving() -> bool:
            self.check_alive()
            try:
                reply = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
            return bool(reply.status == HealthCheckResponse.SERVING)

        with grpc.insecure_channel(self.addresses["grpc"]) as channel:
            wait_until("the hot path being ready", serving, READY_LIMIT_S)

    def wait_ready(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Wait for the gateway's word that an inference succeeded."""

        def ready() -> bool:
            self.check_alive()
            if give_up():
                raise Stopped
            try:
                return httpx.get(f"http://{self.addresses['gateway_metrics']}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until("the stack being ready", ready, READY_LIMIT_S)

    def describe(self) -> Stack:
        scheme = "https" if "tls-certificate-file" in self.gateway_settings else "http"
        return Stack(
            url=f"{scheme}://{self.addresses['http']}",
            grpc=self.addresses["grpc"],
            metrics_url=f"http://{self.addresses['gateway_metrics']}/metrics",
            hotpath_metrics_url=f"http://{self.addresses.get('hotpath_metrics', '')}/metrics",
            keys=self.keys,
            pids={process.name: process.pid for process in self.processes()},
            logs={process.name: str(process.log) for process in self.processes()},
            admin_url=f"http://{self.addresses['admin']}",
            admin_token_file=str(self._admin_token_file()),
        )

    def _admin_token_file(self) -> pathlib.Path:
        """The file with the admin API's credential; made where there is none."""
        path = self.folder / "admin-token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32) + "\n")
        return path.absolute()

    def _address(self, listener: str, port: int) -> str:
        """The address to ask for: after a restart the one from before."""
        return self.addresses.get(listener, f"{HOST}:{port}")

    def _serve(
        self, name: str, program: pathlib.Path, settings: Mapping[str, str], env: Mapping[str, str] | None = None
    ) -> Process:
        flags = [f"--{flag}={value}" for flag, value in settings.items()]
        return Process(name, [*self._program(program), "serve", *flags], self.folder / f"{name}.log", env or {})

    @staticmethod
    def _program(path: pathlib.Path) -> list[str]:
        if not path.exists():
            raise StackError(f"{path.relative_to(ROOT)} is not built: run `make build`")
        return [str(path)]


def onnxruntime_library() -> pathlib.Path:
    """The library inside of the onnxruntime wheel that this Python has."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    (library,) = pathlib.Path(spec.origin).parent.glob("capi/libonnxruntime.*")
    return library
