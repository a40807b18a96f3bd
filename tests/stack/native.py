"""The stack as processes of this machine."""

import pathlib
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from stack.description import ROOT, Stack
from stack.process import Process
from stack.waiting import StackError, wait_until

GATEWAY = ROOT / "go-gateway/bin/gateway"
HOTPATH = ROOT / "rust-hotpath/target/release/hotpath"
MODELS = ROOT / "models"
TENANTS = ROOT / "deploy/tenants.yaml"
TENANT_NAMES = ("acme", "globex", "tiny")

# From start to ready: the bundle's hashes and golden cases are checked first. Seconds; more on a busy machine.
READY_LIMIT_S = 90
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Where to listen; 0 takes a free port."""

    http: int = 0
    grpc: int = 0
    gateway_metrics: int = 0
    hotpath_metrics: int = 0

    def check_free(self) -> None:
        """Raise StackError when another program listens on one of them."""
        for name, port in vars(self).items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    setting = name.upper().replace("HTTP", "PORT") if name == "http" else f"{name.upper()}_PORT"
                    raise StackError(
                        f"port {port} ({name}) is in use by another program: stop it, or choose another port with "
                        f"`make run {setting}=…` (0 takes a free one)"
                    ) from error


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
    ) -> None:
        """Keep logs and keys in `folder`.

        `gateway` and `hotpath` hold settings beyond the usual ones: flag → value. With `hotpath_address` the hot path
        is somebody else's and is not started.
        """
        for program in (GATEWAY, HOTPATH):
            if not program.exists():
                raise StackError(f"{program.relative_to(ROOT)} is not built: run `make build`")
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = ports or Ports()
        self.ports.check_free()
        self.models = models
        self.gateway_settings = dict(gateway or {})
        self.hotpath_settings = dict(hotpath or {})
        self.keys: dict[str, str] = {}
        self.gateway: Process | None = None
        self.hotpath: Process | None = None
        self.addresses: dict[str, str] = {"grpc": hotpath_address} if hotpath_address else {}
        self._starts_hotpath = hotpath_address is None

    # -- life

    def start(self, *, wait: bool = True) -> Stack:
        """Start everything and wait until requests succeed, unless told not to wait."""
        try:
            self.create_keys()
            if self._starts_hotpath:
                self.start_hotpath()
            self.start_gateway()
            if wait:
                self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self.describe()

    def start_hotpath(self) -> Process:
        settings = {
            "listen": self._address("grpc", self.ports.grpc),
            "metrics-listen": self._address("hotpath_metrics", self.ports.hotpath_metrics),
            "models": str(self.models),
            **self.hotpath_settings,
        }
        self.hotpath = self._serve("hotpath", HOTPATH, settings)
        self.addresses["grpc"] = self.hotpath.address("grpc")
        self.addresses["hotpath_metrics"] = self.hotpath.address("metrics")
        return self.hotpath

    def start_gateway(self) -> Process:
        settings = {
            "http-address": self._address("http", self.ports.http),
            "metrics-address": self._address("gateway_metrics", self.ports.gateway_metrics),
            "hotpath-addresses": self.addresses["grpc"],
            "keys-file": str(self.folder / "keys.json"),
            "tenants-file": str(TENANTS),
            **self.gateway_settings,
        }
        self.gateway = self._serve("gateway", GATEWAY, settings)
        self.addresses["http"] = self.gateway.address("http")
        self.addresses["gateway_metrics"] = self.gateway.address("metrics")
        return self.gateway

    def processes(self) -> list[Process]:
        """Those that were started, in the order of a request's way."""
        return [process for process in (self.gateway, self.hotpath) if process]

    def stop(self) -> dict[str, int]:
        """Stop both, the gateway first; return the exit statuses."""
        return {process.name: process.stop() for process in self.processes()}

    def check_alive(self) -> None:
        """Raise StackError with the last log lines when a service is gone."""
        for process in self.processes():
            process.check_alive()

    # -- what it needs and tells

    def create_keys(self) -> None:
        """Make a key for each demo tenant."""
        for tenant in TENANT_NAMES:
            command = [
                str(GATEWAY),
                "keys",
                "create",
                "--tenant",
                tenant,
                "--keys-file",
                str(self.folder / "keys.json"),
            ]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise StackError(f"`gateway keys create` ended with {result.returncode}:\n{result.stderr}")
            self.keys[tenant] = result.stdout.strip()

    def wait_ready(self, limit_s: float = READY_LIMIT_S) -> None:
        """Wait for the gateway's word that an inference succeeded."""

        def ready() -> bool:
            self.check_alive()
            try:
                return httpx.get(f"http://{self.addresses['http']}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until("the stack being ready", ready, limit_s)

    def describe(self) -> Stack:
        return Stack(
            url=f"http://{self.addresses['http']}",
            grpc=self.addresses["grpc"],
            metrics_url=f"http://{self.addresses['gateway_metrics']}/metrics",
            hotpath_metrics_url=f"http://{self.addresses.get('hotpath_metrics', '')}/metrics",
            keys=self.keys,
            pids={process.name: process.pid for process in self.processes()},
            logs={process.name: str(process.log) for process in self.processes()},
        )

    def _address(self, listener: str, port: int) -> str:
        """The address to ask for: after a restart the one from before."""
        return self.addresses.get(listener, f"{HOST}:{port}")

    def _serve(self, name: str, program: pathlib.Path, settings: Mapping[str, str]) -> Process:
        flags = [f"--{flag}={value}" for flag, value in settings.items()]
        return Process(name, [str(program), "serve", *flags], self.folder / f"{name}.log", {})
