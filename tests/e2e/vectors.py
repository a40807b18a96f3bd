"""Embeddings over plain HTTP, as the bits that travel."""

import base64
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

MODEL = "all-minilm-l6-v2"

Input = str | list[str] | list[int] | list[list[int]]


def embed(http: httpx.Client, inputs: Input, **fields: object) -> list[bytes]:
    """Return each input's vector as little-endian float32 bytes."""
    return [base64.b64decode(entry["embedding"]) for entry in reply(http, inputs, **fields)["data"]]


def reply(http: httpx.Client, inputs: Input, **fields: object) -> dict[str, Any]:
    """Return the reply to a request for base64, which must succeed."""
    body = {"model": MODEL, "input": inputs, "encoding_format": "base64", **fields}
    response = http.post("/v1/embeddings", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def floats(raw: list[bytes]) -> NDArray[np.float32]:
    """Return vectors [inputs, dimensions]."""
    return np.stack([np.frombuffer(vector, "<f4") for vector in raw])
