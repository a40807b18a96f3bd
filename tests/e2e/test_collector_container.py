"""The collector as `docker compose --profile observe up` has it."""

import httpx

from e2e.our_collector import records_of
from e2e.vectors import embed
from stack.compose import ComposeStack, files_in, unused_ports
from stack.waiting import wait_until

PROJECT = "triptych-e2e-observe"
REQUEST = "find-me-in-the-records"
# As deploy/README.md says.
TRACED = {"OTLP_ENDPOINT": "http://collector:4317", "TRACE_RATIO": "1"}


def test_it_writes_what_a_request_used_though_nobody_takes_its_traces(compose_only: None) -> None:
    """Of its profile it is the one image that is built here: the store of traces is not started."""
    with ComposeStack(PROJECT, {**unused_ports(), **TRACED}, profiles=["observe"], publish_grpc=True) as compose:
        stack = compose.describe()
        headers = {"authorization": f"Bearer {stack.keys['acme']}", "x-request-id": REQUEST}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
            embed(http, "a text")

        def record() -> dict[str, object] | None:
            usage = files_in(compose.container("collector"), "/traces").get("traces/usage.jsonl", b"")
            return next((each for each in records_of(usage) if each["triptych.request.id"] == REQUEST), None)

        found = wait_until("the record of usage", record, 60)
        assert (found["triptych.tenant"], found["triptych.outcome"]) == ("acme", "OK")
        assert compose.container("collector").attrs["State"]["Health"]["Status"] == "healthy"
