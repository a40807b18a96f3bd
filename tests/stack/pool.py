"""Several hot paths before one or more gateways."""

import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from stack.description import Stack
from stack.native import READY_LIMIT_S, NativeStack
from stack.process import Process
from stack.waiting import StackError, wait_until


class Pool:
    """Hot paths and their gateways, each of which can be stopped, killed and started again on its address."""

    def __init__(
        self,
        folder: pathlib.Path,
        hotpaths: Sequence[Mapping[str, str]],
        gateway: Mapping[str, str] | None = None,
        gateways: int = 1,
    ) -> None:
        """Keep logs and keys in `folder`; `hotpaths` and `gateway` hold settings: flag → value."""
        self._hotpaths = [
            NativeStack(folder / f"hotpath{number}", hotpath=settings) for number, settings in enumerate(hotpaths)
        ]
        self._folder = folder
        self._settings = dict(gateway or {})
        self._count = gateways
        self._gateways: list[NativeStack] = []

    def start(self, road: Callable[[int, str], str] = lambda _, address: address) -> Stack:
        """Start everything, and return the first gateway.

        `road` says by which address the gateways reach a hot path, of its number and its own address.
        """
        try:
            for hotpath in self._hotpaths:
                hotpath.start_hotpath()
            addresses = [road(number, hotpath.addresses["grpc"]) for number, hotpath in enumerate(self._hotpaths)]
            settings = {"hotpath-addresses": ",".join(addresses), **self._settings}
            for number in range(self._count):
                folder = self._folder / f"gateway{number}"
                if self._gateways:  # all know the same keys, as with one database
                    shutil.copytree(self._gateways[0].folder, folder)
                gateway = NativeStack(folder, hotpath_address=addresses[0], gateway=settings)
                gateway.create_keys()
                self._gateways.append(gateway)
            for gateway in self._gateways:
                gateway.start()
            self.wait_all_proven()
        except BaseException:
            self.stop()
            raise
        return self._gateways[0].describe()

    def stop(self) -> None:
        for stack in [*self._gateways, *self._hotpaths]:
            stack.stop()

    def hotpath(self, number: int) -> Process:
        process = self._hotpaths[number].hotpath
        assert process is not None
        return process

    def gateway(self, number: int) -> Process:
        process = self._gateways[number].gateway
        assert process is not None
        return process

    def describe_gateways(self) -> list[Stack]:
        return [gateway.describe() for gateway in self._gateways]

    def hotpath_metrics_url(self, number: int) -> str:
        return f"http://{self._hotpaths[number].addresses['hotpath_metrics']}/metrics"

    def start_again(self, number: int) -> None:
        """Start a hot path that has ended, at its address, and wait until each gateway knows that it works."""
        self._hotpaths[number].start_hotpath()
        self.wait_all_proven()

    def start_gateway_again(self, number: int) -> None:
        """Start a gateway that has ended, at its address, and wait until it knows that each hot path works."""
        self._gateways[number].start_gateway()
        self.wait_all_proven()

    def replicas(self, gateway: int = 0) -> list[dict[str, Any]]:
        """What a gateway tells its operators of each hot path."""
        address = self._gateways[gateway].addresses["gateway_metrics"]
        replicas: list[dict[str, Any]] = httpx.get(f"http://{address}/readyz", timeout=5).json()["replicas"]
        return replicas

    def wait_all_proven(self) -> None:
        """Wait until each gateway knows of each model of each hot path that it works."""

        def proven() -> bool:
            for stack in [*self._gateways, *self._hotpaths]:
                stack.check_alive()
            return all(
                replica["connected"]
                and replica["models"]
                and not replica["ejected"]
                and all(model["proven"] for model in replica["models"])
                for gateway in range(len(self._gateways))
                for replica in self.replicas(gateway)
            )

        if not self._gateways:
            raise StackError("there is no gateway")
        wait_until("all hot paths being proven", proven, READY_LIMIT_S)

    def logs(self) -> list[pathlib.Path]:
        return [process.log for stack in [*self._gateways, *self._hotpaths] for process in stack.processes()]
