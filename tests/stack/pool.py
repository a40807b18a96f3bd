"""Several hot paths before one gateway."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from stack.description import Stack
from stack.native import READY_LIMIT_S, NativeStack
from stack.process import Process
from stack.waiting import StackError, wait_until


class Pool:
    """Hot paths, each of which can be stopped, killed and started again on its address, and their gateway."""

    def __init__(
        self, folder: pathlib.Path, hotpaths: Sequence[Mapping[str, str]], gateway: Mapping[str, str] | None = None
    ) -> None:
        """Keep logs and keys in `folder`; `hotpaths` and `gateway` hold settings: flag → value."""
        self._hotpaths = [
            NativeStack(folder / f"hotpath{number}", hotpath=settings) for number, settings in enumerate(hotpaths)
        ]
        self._folder = folder
        self._settings = dict(gateway or {})
        self._gateway: NativeStack | None = None

    def start(self) -> Stack:
        try:
            for hotpath in self._hotpaths:
                hotpath.start_hotpath()
            addresses = [hotpath.addresses["grpc"] for hotpath in self._hotpaths]
            self._gateway = NativeStack(
                self._folder / "gateway",
                hotpath_address=addresses[0],
                gateway={"hotpath-addresses": ",".join(addresses), **self._settings},
            )
            self._gateway.start()
            self.wait_all_proven()
        except BaseException:
            self.stop()
            raise
        return self._gateway.describe()

    def stop(self) -> None:
        for stack in [self._gateway, *self._hotpaths]:
            if stack:
                stack.stop()

    def hotpath(self, number: int) -> Process:
        process = self._hotpaths[number].hotpath
        assert process is not None
        return process

    def start_again(self, number: int) -> None:
        """Start a hot path that has ended, at its address, and wait until the gateway knows that it works."""
        self._hotpaths[number].start_hotpath()
        self.wait_all_proven()

    def replicas(self) -> list[dict[str, Any]]:
        """What the gateway tells its operators of each hot path."""
        assert self._gateway is not None
        address = self._gateway.addresses["gateway_metrics"]
        replicas: list[dict[str, Any]] = httpx.get(f"http://{address}/readyz", timeout=5).json()["replicas"]
        return replicas

    def wait_all_proven(self) -> None:
        """Wait until the gateway knows of each model of each hot path that it works."""

        def proven() -> bool:
            for stack in [self._gateway, *self._hotpaths]:
                if stack is None:
                    raise StackError("there is no gateway")
                stack.check_alive()
            return all(
                replica["connected"]
                and replica["models"]
                and not replica["ejected"]
                and all(model["proven"] for model in replica["models"])
                for replica in self.replicas()
            )

        wait_until("all hot paths being proven", proven, READY_LIMIT_S)

    def logs(self) -> list[pathlib.Path]:
        stacks = [stack for stack in [self._gateway, *self._hotpaths] if stack]
        return [process.log for stack in stacks for process in stack.processes()]
