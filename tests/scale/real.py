"""The real stack under a trace: gateway and hot paths of one thread each, streams over HTTP, no drafts."""

import pathlib
import time
from collections.abc import Sequence

from bench.generation.prompts import Prompts
from bench.generation.servers import GREEDY, MODEL, QUIET_GATEWAY, QUIET_HOTPATH
from bench.generation.streams import Answer, Reader, Request, build_request
from scale.traces import Arrival
from stack.description import Stack
from stack.pool import Pool

# Two replicas and what is round them share two cores in the smallest machine that this runs on.
ONE_THREAD = {"generation-threads": "1", "compute-threads": "1", "workers": "1", "draft-tokens": "0"}


class Fleet:
    """A gateway before some hot paths that have the decoder alone."""

    def __init__(self, folder: pathlib.Path, replicas: int) -> None:
        settings = {"model-names": MODEL, **QUIET_HOTPATH, **ONE_THREAD}
        self._pool = Pool(folder, [settings] * replicas, QUIET_GATEWAY)
        self._where: Stack = self._pool.start()

    def complete(self, prompt: str, prompt_tokens: int, max_tokens: int) -> Request:
        """A request for a text of an exact length."""
        body = {"model": MODEL, **GREEDY, "prompt": prompt, "max_tokens": max_tokens}
        address = self._where.address
        return build_request(address, "/v1/completions", self._where.keys["acme"], body, prompt_tokens)

    def stop(self) -> None:
        self._pool.stop()


def replay(fleet: Fleet, prompts: Prompts, arrivals: Sequence[Arrival]) -> list[Answer]:
    """Send each request when it is due, whether or not earlier ones are answered; return the answers in their order."""
    requests = [
        fleet.complete(prompts.text(arrival.prompt_tokens), arrival.prompt_tokens, arrival.output_tokens)
        for arrival in arrivals
    ]
    with Reader() as reader:
        start, streams = time.monotonic() + 0.1, []
        for arrival, request in zip(arrivals, requests, strict=True):
            reader.read_for(start + arrival.at_s - time.monotonic())
            streams.append(reader.open(request))
        return reader.finish(*streams)
