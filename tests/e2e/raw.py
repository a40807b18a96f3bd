"""HTTP by hand, where a client library would hide what is tested, or cost what is measured."""


def post(address: tuple[str, int], path: str, key: str, body: bytes) -> bytes:
    """The bytes of one POST of JSON."""
    host, port = address
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
