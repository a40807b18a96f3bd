"""LiteLLM's proxy, as `make litellm` installs it, before the null engine."""

import json
import pathlib

import httpx

from bench.litellm_install import COMMAND
from stack.loopback import HOST, free_port
from stack.process import Process
from stack.waiting import wait_until

START_LIMIT_S = 120
KEY = "sk-benchmark"
# As its documentation has it for production; and its table of prices from the package, not from the network.
ENVIRONMENT = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
# Its own default, and the fastest of those that it offers.
SERVERS = {"uvicorn": (), "granian": ("--run_granian",)}


class LiteLLM:
    """One worker process with one key, no database and no limits; it takes half a minute to be ready."""

    def __init__(self, folder: pathlib.Path, server: str, upstream: str, models: tuple[str, ...]) -> None:
        listed = [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "api_base": f"{upstream}/v1", "api_key": "none"},
            }
            for name in models
        ]
        config = folder / f"{server}.yaml"  # JSON is YAML
        settings = {"telemetry": False, "set_verbose": False}
        config.write_text(
            json.dumps({"model_list": listed, "general_settings": {"master_key": KEY}, "litellm_settings": settings})
        )
        port = free_port()
        command = [*COMMAND, "--config", str(config), "--host", HOST, "--port", str(port), "--num_workers", "1"]
        command += SERVERS[server]
        self._process = Process(server, command, folder / f"{server}.log", ENVIRONMENT)
        self.pid, self.url = self._process.pid, f"http://{HOST}:{port}"

    def wait_ready(self) -> None:
        wait_until("LiteLLM's proxy being ready", self._ready, START_LIMIT_S)

    def stop(self) -> None:
        self._process.stop()

    def _ready(self) -> bool:
        self._process.check_alive()
        try:
            return httpx.get(f"{self.url}/health/liveliness", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
