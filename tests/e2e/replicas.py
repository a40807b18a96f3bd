"""What a gateway tells of its hot paths, and what keeps each of them busy."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from e2e.vectors import MODEL
from stack.description import Stack
from stack.waiting import wait_until

# A call that was under way at a signal is lost or saved with its hot path; one that began so much later is neither.
SETTLED_S = 0.5
# Between a hang and the end of its second look: a second between looks, and two for an answer. More on a busy machine.
NOTICED_S = 20
ONE_MODEL = {"model-names": MODEL, "workers": "1", "max-queue-tokens": "1000000", "max-queue-ms": "60000"}
LONG: dict[str, object] = {"input": ["a text of some ten tokens, of which there are many"] * 64}


def replica_metric(stack: Stack, name: str) -> dict[str, float]:
    """A metric by the hot path's address."""
    text = httpx.get(stack.metrics_url, timeout=5).raise_for_status().text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {entry.labels["replica"]: entry.value for entry in samples if entry.name == f"gateway_replica_{name}"}


def ejected(stack: Stack) -> float:
    return sum(replica_metric(stack, "ejected").values())


def wait_for_calls_everywhere(stack: Stack) -> None:
    """Wait until each hot path has something to do: what happens to one is nothing if it has not."""
    wait_until("calls at both", lambda: all(replica_metric(stack, "outstanding_calls").values()), 30)
