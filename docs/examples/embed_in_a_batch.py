"""Embed a file of texts, one a line, as one batch.

    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python embed_in_a_batch.py texts.txt vectors.npy

Row n of the result is the vector of line n; a line that could not be embedded is told, and its row is NaN. Ctrl-C
leaves the batch to the server: the same command goes on where it is. It needs `openai`, `numpy` and `rich`.
"""

import argparse
import hashlib
import itertools
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import openai
from openai.types import Batch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ENDED = {"completed", "failed", "expired", "cancelled"}
POLL_S = 1
LATEST = 1000  # batches, among which one of the same texts is looked for


def lines(texts: pathlib.Path) -> Iterator[tuple[int, str]]:
    """The texts by their numbers, from 0."""
    with texts.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            yield number, line.removesuffix("\n")


def mark(texts: pathlib.Path, model: str) -> dict[str, str]:
    """What a batch of these texts is known by, as its metadata: nothing is to be remembered here."""
    with texts.open("rb") as content:
        return {"embed_in_a_batch": f"{model} {hashlib.file_digest(content, 'sha256').hexdigest()}"}


def find(client: openai.OpenAI, known_by: dict[str, str]) -> Batch | None:
    """The batch that was submitted before, if it runs or is done."""
    for batch in itertools.islice(client.batches.list(limit=100), LATEST):
        if batch.metadata == known_by and batch.status not in {"failed", "expired", "cancelling", "cancelled"}:
            return batch
    return None


def submit(client: openai.OpenAI, texts: pathlib.Path, model: str) -> Batch:
    """A new batch. The file of requests is on disk, not in memory."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as requests:
        for number, text in lines(texts):
            body = {"model": model, "input": text, "encoding_format": "float"}
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
            requests.write(json.dumps(line).encode() + b"\n")
        requests.flush()
        file = client.files.create(file=pathlib.Path(requests.name), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata=mark(texts, model)
    )


def wait(client: openai.OpenAI, batch: Batch, console: Console) -> Batch:
    """The batch once it has ended, with a progress bar until then."""
    told = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*told, console=console) as progress:
        task = progress.add_task(batch.status, total=None)
        while True:
            if counts := batch.request_counts:
                done = counts.completed + counts.failed
                progress.update(task, description=batch.status, total=counts.total or None, completed=done)
            if batch.status in ENDED:
                return batch
            time.sleep(POLL_S)
            batch = client.batches.retrieve(batch.id)


def replies(client: openai.OpenAI, file_id: str | None) -> Iterator[dict[str, Any]]:
    """The lines of an output or error file, one at a time, however large it is."""
    if file_id is None:
        return
    with client.files.with_streaming_response.content(file_id) as response:
        for line in response.iter_lines():
            yield json.loads(line)


def collect(client: openai.OpenAI, batch: Batch, rows: int, console: Console) -> npt.NDArray[np.float32]:
    """Vectors [rows, size], float32, in the order of the texts."""
    vectors = np.zeros((rows, 0), np.float32)
    for reply in replies(client, batch.output_file_id):
        vector = reply["response"]["body"]["data"][0]["embedding"]
        if not vectors.size:
            vectors = np.full((rows, len(vector)), np.nan, np.float32)
        vectors[int(reply["custom_id"])] = vector
    for reply in replies(client, batch.error_file_id):
        error = reply["error"] or reply["response"]["body"]["error"]
        console.print(f"line {int(reply['custom_id']) + 1}: {error['message']}", style="red", markup=False)
    return vectors


def main(arguments: list[str]) -> int:
    """0 when every text has its vector, 1 when some have none, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Embed a file of texts, one a line, as one batch.")
    parser.add_argument("texts", type=pathlib.Path)
    parser.add_argument("vectors", type=pathlib.Path, help="the .npy file to write")
    parser.add_argument("--model", default="all-minilm-l6-v2")
    parser.add_argument("--cancel", action="store_true", help="have the batch cancelled, and keep what is finished")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    with openai.OpenAI(max_retries=10) as client:
        try:
            batch = find(client, mark(chosen.texts, chosen.model))
            if chosen.cancel:
                if batch is None:
                    parser.error("there is no such batch")
                if batch.status not in ENDED:
                    batch = client.batches.cancel(batch.id)
            batch = wait(client, batch or submit(client, chosen.texts, chosen.model), console)
        except KeyboardInterrupt:
            console.print("The batch goes on without this program. The same command waits for it; --cancel ends it.")
            return 130
        vectors = collect(client, batch, sum(1 for _ in lines(chosen.texts)), console)
    for error in (batch.errors and batch.errors.data) or []:
        console.print(f"line {error.line}: {error.message}", style="red", markup=False)
    np.save(chosen.vectors, vectors)
    have = int(np.isfinite(vectors).all(axis=1).sum()) if vectors.size else 0
    console.print(
        f"batch {batch.id} is {batch.status}: {have} of {len(vectors)} texts have a vector, in {chosen.vectors}",
        highlight=False,
    )
    return 0 if have == len(vectors) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
