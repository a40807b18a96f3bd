"""The pipeline that embeds files, against the real stack: docs/pipelines.md."""

import csv
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from e2e import metrics
from e2e.vectors import MODEL, embed
from stack.description import ROOT, Stack
from stack.waiting import wait_until

COMMAND = ROOT / "go-gateway/bin/embed"
TEXTS = [f"text {n}: what is said of {n % 7} things" for n in range(600)]
LIMIT_S = 100
DONE, FAILURES, INTERRUPTED = 0, 3, 130

Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(stack: Stack, tmp_path: pathlib.Path) -> Run:
    """Start the program."""

    def start(path: pathlib.Path, *flags: str) -> subprocess.Popen[str]:
        command = [COMMAND, "--url", stack.url, "--model", MODEL, "--input", path, "--id-field", "id"]
        key = {"OPENAI_API_KEY": stack.keys["acme"]}
        return subprocess.Popen(
            [*map(str, command), "--output", str(tmp_path / "out"), *flags],
            env={**os.environ, **key},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process: subprocess.Popen[str], expected: int) -> None:
    with process:
        told = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == expected, told


def tokens(stack: Stack) -> float:
    return metrics.read(stack.metrics_url).get("gateway_tokens_total", 0)


def write(path: pathlib.Path, texts: list[str]) -> None:
    lines = [json.dumps({"id": f"id-{n}", "text": text}) for n, text in enumerate(texts)]
    path.write_text("\n".join(lines))


def ids(out: pathlib.Path) -> list[str]:
    return [json.loads(line)["id"] for line in (out / "ids.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("interruptible")
def test_vectors_are_those_of_the_api_whatever_ends_the_program(
    run: Run, stack: Stack, http: httpx.Client, tmp_path: pathlib.Path
) -> None:
    path, out = tmp_path / "docs.jsonl", tmp_path / "out"
    write(path, TEXTS)
    few = ("--concurrency", "1", "--batch", "10")
    for end, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, INTERRUPTED)):
        before = tokens(stack)
        process = run(path, *few)
        wait_until("the first vectors", lambda before=before: tokens(stack) > before, LIMIT_S)  # type: ignore[misc]
        process.send_signal(end)
        ended(process, expected)
    ended(run(path), DONE)
    vectors = np.load(out / "vectors.npy")
    assert vectors.dtype == np.float32
    assert ids(out) == [f"id-{n}" for n in range(len(TEXTS))]
    assert [row.tobytes() for row in vectors] == [
        vector for first in range(0, len(TEXTS), 100) for vector in embed(http, TEXTS[first : first + 100])
    ]

    before = tokens(stack)
    ended(run(path), DONE)
    assert tokens(stack) == before
    changed = [*TEXTS[5:], "another text"]
    write(path, changed)
    ended(run(path), DONE)
    (alone,) = embed(http, ["another text"])
    after = np.load(out / "vectors.npy")
    assert after[:-1].tobytes() == vectors[5:].tobytes()
    assert after[-1].tobytes() == alone
    # Once by the program and once by us.
    assert 0 < tokens(stack) - before < 20


def test_what_the_model_refuses_fails_alone(run: Run, http: httpx.Client, tmp_path: pathlib.Path) -> None:
    path, out = tmp_path / "docs.csv", tmp_path / "out"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("id", "text"), ("a", 'a "quoted"\ntext'), ("b", "word " * 1000), ("c", ""), ("d", "東京")]
        )
    ended(run(path), FAILURES)
    assert ids(out) == ["a", "d"]
    assert [row.tobytes() for row in np.load(out / "vectors.npy")] == embed(http, ['a "quoted"\ntext', "東京"])
    failed = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
    assert [(line["id"], line["line"], line["code"]) for line in failed] == [
        ("b", 4, "context_length_exceeded"),
        ("c", 5, "empty_text"),
    ]
