"""`collector trace` of a request to each endpoint: where its time went, and what it was the cause of."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from e2e import chats, vectors
from e2e.limits import client as http_of
from e2e.our_collector import OurCollector, shape
from e2e.receivers import Receiver
from e2e.test_moderations import MODEL as MODERATION
from stack.description import ROOT
from stack.native import NativeStack
from stack.waiting import StackError, wait_until

LIMIT_S = 60
SERVICE = "triptych.inference.v1.InferenceService"
SERVER = ROOT / "go-gateway/internal/server"
SECRET = "Xylophonist Quetzalcoatl"
EMBEDDING = {"model": vectors.MODEL, "input": SECRET}
LINE = json.dumps({"custom_id": SECRET, "method": "POST", "url": "/v1/embeddings", "body": EMBEDDING}).encode()


@dataclass
class Site:
    """A stack of which all is recorded, a collector that keeps it, a receiver of webhooks; and ids of what was made."""

    http: httpx.Client
    key: str
    collector: OurCollector
    receiver: Receiver
    ids: dict[str, str] = field(default_factory=dict)

    def make(self, kind: str, path: str, **asked: Any) -> httpx.Response:
        """Make something, and note its id."""
        reply = self.http.post(path, **asked)
        self.ids[kind] = str(reply.json()["id"])
        return reply


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if request.getfixturevalue("stack_kind") != "native":
        pytest.skip("LOUD: our collector is only tested with --stack native")
    with OurCollector(tmp_path_factory.mktemp("collector")) as collector, Receiver() as receiver:
        native = NativeStack(
            tmp_path_factory.mktemp("observed"),
            gateway={
                "otlp-endpoint": collector.url,
                "trace-ratio": "1",
                "webhook-allow-networks": "127.0.0.0/8",
            },
            hotpath={"otlp-endpoint": collector.url},
        )
        stack = native.start()
        with http_of(stack, "acme") as http:
            yield Site(http, stack.keys["acme"], collector, receiver)
        native.stop()


def call(method: str, *parts: str) -> list[str]:
    """The gateway's call to a hot path, and what that shows of it."""
    name = f"{SERVICE}/{method}"
    return ["  admit", f"  {name}", f"    {name}", *(f"      {part}" for part in parts)]


ENCODED = ("tokenize", "queue", "inference")
GENERATED = ("tokenize", "queue", "prefill", "  · chunk", "decode", "  · first token", "  · last token")
EMBED = [f"embeddings {vectors.MODEL}", *call("Embed", *ENCODED)]
CHAT = [f"chat {chats.MODEL}", *call("Generate", *GENERATED)]
COMPLETE = [f"text_completion {chats.MODEL}", *call("Generate", *GENERATED)]
MODERATE = [f"classification {MODERATION}", *call("Classify", *ENCODED)]
STREAM = ["stream", "  · first token", "  · last token"]
BODY = ["receive body"]
WRITE = ["store write"]
ADMIT = "admit"
TOKENIZE = [f"tokenization {vectors.MODEL}", *call("Tokenize", "tokenize")]


@dataclass
class Case:
    """A request; what is below `authenticate` in its trace; and the traces that it is the cause of."""

    route: str
    ask: Callable[[Site], httpx.Response]
    inside: list[str]
    effects: list[str] = field(default_factory=list)


def get(path: str) -> Callable[[Site], httpx.Response]:
    return lambda site: site.http.get(path.format_map(site.ids))


def post(path: str, **asked: Any) -> Callable[[Site], httpx.Response]:
    return lambda site: site.http.post(path.format_map(site.ids), **asked)


def delete(path: str) -> Callable[[Site], httpx.Response]:
    return lambda site: site.http.delete(path.format_map(site.ids))


def upload(site: Site) -> httpx.Response:
    return site.make("file", "/v1/files", data={"purpose": "batch"}, files={"file": (f"{SECRET}.jsonl", LINE)})


def submit(site: Site, name: str) -> httpx.Response:
    asked = {"input_file_id": site.ids["file"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    return site.make(name, "/v1/batches", json=asked)


def deliveries(site: Site) -> httpx.Response:
    """Those of the webhook, once one was made."""

    def look() -> httpx.Response | None:
        reply = get("/v1/webhook_endpoints/{hook}/deliveries")(site)
        return reply if any(one["state"] == "delivered" for one in reply.json()["data"]) else None

    reply = wait_until("a delivery", look, LIMIT_S)
    site.ids["delivery"] = reply.json()["data"][0]["id"]
    return reply


def reviews(site: Site) -> httpx.Response:
    """What waits for people, once something does."""
    site.make("moderation", "/v1/jobs", json=MODERATION_JOB)
    get("/v1/jobs/{moderation}?wait=30")(site)
    reply = get("/v1/moderation_reviews")(site)
    site.ids["review"] = reply.json()["data"][0]["id"]
    return reply


def cancel(site: Site) -> httpx.Response:
    """Cancel a job that may have ended already."""
    site.make("cancelled", "/v1/jobs", json=JOB)
    return post("/v1/jobs/{cancelled}/cancel")(site)


SAID = chats.body(chats.say(SECRET), max_tokens=4)
JOB = {"endpoint": "/v1/embeddings", "body": EMBEDDING, "metadata": {"note": SECRET}}
MODERATION_JOB = {
    "endpoint": "/v1/moderations",
    "thresholds": {"review": 0.0, "flagged": 1.0},
    "body": {"input": [SECRET]},
}
CASES = [
    Case("POST /v1/embeddings", post("/v1/embeddings", json=EMBEDDING), [*BODY, *EMBED]),
    Case("POST /v1/chat/completions", post("/v1/chat/completions", json=SAID), [*BODY, *CHAT]),
    Case(
        "POST /v1/chat/completions",
        post("/v1/chat/completions", json={**SAID, "stream": True}),
        [*BODY, *CHAT, *STREAM],
    ),
    Case(
        "POST /v1/completions",
        post("/v1/completions", json={"model": chats.MODEL, "prompt": SECRET, "max_tokens": 4}),
        [*BODY, *COMPLETE],
    ),
    Case("POST /v1/moderations", post("/v1/moderations", json={"input": SECRET}), [*BODY, *MODERATE]),
    Case("POST /v1/tokenize", post("/v1/tokenize", json=EMBEDDING), [*BODY, *TOKENIZE]),
    Case("GET /v1/models", get("/v1/models"), [ADMIT]),
    Case("GET /v1/models/{id}", get(f"/v1/models/{vectors.MODEL}"), [ADMIT]),
    Case("GET /v1/limits", get("/v1/limits"), []),
    Case("GET /v1/webhook_event_types", get("/v1/webhook_event_types"), [ADMIT]),
    Case(
        "POST /v1/webhook_endpoints",
        lambda site: site.make(
            "hook",
            "/v1/webhook_endpoints",
            json={"name": SECRET, "url": site.receiver.url, "event_types": ["job.completed"]},
        ),
        [ADMIT, *BODY, *WRITE],
    ),
    Case("GET /v1/webhook_endpoints", get("/v1/webhook_endpoints"), [ADMIT]),
    Case("GET /v1/webhook_endpoints/{id}", get("/v1/webhook_endpoints/{hook}"), [ADMIT]),
    Case(
        "POST /v1/webhook_endpoints/{id}",
        post("/v1/webhook_endpoints/{hook}", json={"name": f"another {SECRET}"}),
        [ADMIT, *BODY, *WRITE],
    ),
    Case(
        "POST /v1/webhook_endpoints/{id}/rotate_secret",
        post("/v1/webhook_endpoints/{hook}/rotate_secret"),
        [ADMIT, *BODY, *WRITE],
    ),
    Case(
        "POST /v1/webhook_endpoints/{id}/test",
        post("/v1/webhook_endpoints/{hook}/test", json={"event_type": "job.completed"}),
        [ADMIT, *BODY, "deliver"],
    ),
    Case("POST /v1/files", upload, [ADMIT, *BODY, *WRITE]),
    Case("GET /v1/files", get("/v1/files"), [ADMIT]),
    Case("GET /v1/files/{id}", get("/v1/files/{file}"), [ADMIT]),
    Case("GET /v1/files/{id}/content", get("/v1/files/{file}/content"), [ADMIT]),
    Case(
        "POST /v1/batches",
        lambda site: submit(site, "batch"),
        [ADMIT, *BODY, *WRITE],
        ["process batch", "execute /v1/embeddings", "process batch"],
    ),
    Case("GET /v1/batches", get("/v1/batches"), [ADMIT]),
    Case("GET /v1/batches/{id}", get("/v1/batches/{batch}"), [ADMIT]),
    Case("POST /v1/batches/{id}/cancel", post("/v1/batches/{batch}/cancel"), [ADMIT, *WRITE]),
    Case(
        "POST /v1/jobs",
        lambda site: site.make("job", "/v1/jobs", json=JOB),
        [ADMIT, *BODY, *WRITE],
        ["process jobs", "process webhooks", "process webhooks"],
    ),
    Case("GET /v1/jobs", get("/v1/jobs"), [ADMIT]),
    Case("GET /v1/jobs/{id}", get("/v1/jobs/{job}?wait=30"), [ADMIT]),
    Case("GET /v1/webhook_endpoints/{id}/deliveries", deliveries, [ADMIT]),
    Case(
        "POST /v1/webhook_endpoints/{id}/deliveries/{delivery}/replay",
        post("/v1/webhook_endpoints/{hook}/deliveries/{delivery}/replay"),
        [ADMIT, *WRITE],
    ),
    Case("POST /v1/jobs/{id}/cancel", cancel, [ADMIT, *WRITE]),
    Case("GET /v1/moderation_reviews", reviews, [ADMIT]),
    Case("GET /v1/moderation_reviews/{id}", get("/v1/moderation_reviews/{review}"), [ADMIT]),
    Case(
        "POST /v1/moderation_reviews/{id}",
        post("/v1/moderation_reviews/{review}", json={"decision": "passed", "note": SECRET}),
        [ADMIT, *BODY, *WRITE],
    ),
    Case("DELETE /v1/webhook_endpoints/{id}", delete("/v1/webhook_endpoints/{hook}"), [ADMIT, *WRITE]),
    Case("DELETE /v1/files/{id}", delete("/v1/files/{file}"), [ADMIT, *WRITE]),
]


MAY_BE_LATE = {"POST /v1/batches/{id}/cancel"}  # a batch of one line may have ended


def routes() -> set[str]:
    """All that the gateway's table has but what is polled."""
    text = "".join(path.read_text() for path in SERVER.glob("*.go"))
    constants = dict(re.findall(r'(\w+Route) += "([^"]+)"', text))
    found = re.findall(r"\{http\.Method(\w+), ([^,]+), (?:keyed|anyKey), ", (SERVER / "routes.go").read_text())

    def path(written: str) -> str:
        return "".join(constants.get(part) or part.strip('"') for part in written.split(" + "))

    return {f"{method.upper()} {path(written)}" for method, written in found}


def blocks(drawn: str) -> list[list[str]]:
    """The traces that were drawn, the request's first, each as names of spans and events."""
    found: list[list[str]] = []
    for line in shape(drawn):
        if line.startswith("trace "):
            found.append([])
        elif line and not re.match("request |caused by ", line):
            found[-1].append(line)
    return found


def test_each_endpoint_shows_where_its_time_went(site: Site) -> None:
    assert {case.route for case in CASES} == routes()
    asked = [(case, case.ask(site)) for case in CASES]
    for case, reply in asked:
        assert reply.status_code < 300 or case.route in MAY_BE_LATE, (case.route, reply.text)
    for case, reply in asked:
        check(site.collector, reply.headers["x-request-id"], case)


def check(collector: OurCollector, request_id: str, case: Case) -> None:
    """Hold that a request's trace, and those that it is the cause of, come to be as they should."""
    wanted = [case.route, "  authenticate", *(f"  {line}" for line in case.inside)]
    seen: list[list[str]] = []

    def look() -> bool:
        seen[:] = blocks(collector.draw(request_id))
        return seen[:1] == [wanted] and [block[0] for block in seen[1:]] == case.effects

    with contextlib.suppress(StackError):
        wait_until(f"the trace of {case.route}", look, LIMIT_S)
    assert seen[:1] == [wanted], case.route
    assert [block[0] for block in seen[1:]] == case.effects, case.route


def test_nothing_that_a_client_wrote_is_in_any_of_it(site: Site) -> None:
    """After all of them were asked."""
    written = b"".join(path.read_bytes() for path in site.collector.folder.iterdir()).lower()
    assert written.count(b"triptych.request.id") > len(CASES)
    for secret in (*SECRET.split(), site.key, site.key[-20:], str(site.receiver.port)):
        assert secret.lower().encode() not in written, secret
