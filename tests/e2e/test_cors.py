"""Pages in a browser call the API from the origins that the operator names, and from no others."""

from collections.abc import Callable

import httpx

from e2e.vectors import MODEL
from stack.native import NativeStack

PAGE, STRANGER = "https://chat.example.com", "https://example.org"
ALLOWED = "access-control-allow-origin"


def test_pages_of_named_origins_alone_may_call(start_native: Callable[..., NativeStack]) -> None:
    stack = start_native(gateway={"cors-origins": f"{PAGE},https://*.example.net"}).describe()
    key = {"authorization": f"Bearer {stack.keys['acme']}"}
    text = {"model": MODEL, "input": "a text"}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    with httpx.Client(base_url=stack.url, timeout=30) as http:

        def preflight(origin: str) -> httpx.Response:
            """What a browser asks before it sends a key to another origin."""
            return http.options("/v1/embeddings", headers={"origin": origin, **asks})

        for origin in (PAGE, "https://any.example.net"):
            answer = preflight(origin)
            assert (answer.status_code, answer.headers[ALLOWED]) == (204, origin)
            assert answer.headers["access-control-allow-methods"] == "POST"
            assert set(answer.headers["access-control-allow-headers"].split(",")) == {"authorization", "content-type"}
            called = http.post("/v1/embeddings", headers={"origin": origin, **key}, json=text)
            assert (called.status_code, called.headers[ALLOWED]) == (200, origin)
            assert "x-ratelimit-remaining-requests" in called.headers["access-control-expose-headers"].lower()
        # What goes wrong is theirs to read, too.
        refused = http.post("/v1/embeddings", headers={"origin": PAGE}, json=text)
        assert (refused.status_code, refused.headers[ALLOWED]) == (401, PAGE)
        assert ALLOWED not in preflight(STRANGER).headers
        # It is the browser who keeps the reply from the page: whoever has a key may call without one.
        called = http.post("/v1/embeddings", headers={"origin": STRANGER, **key}, json=text)
        assert called.status_code == 200
        assert ALLOWED not in called.headers
