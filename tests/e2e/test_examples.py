"""The examples that documents show, run as their readers run them."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import openai
import pytest

from stack.description import ROOT, Stack
from stack.waiting import wait_until

EMBED = ROOT / "docs/examples/embed_in_a_batch.py"
MODEL = "all-minilm-l6-v2"
TEXTS = 1500
EMPTY = 7
LIMIT_S = 100


@pytest.mark.usefixtures("interruptible")
def test_a_file_is_embedded_in_one_batch_whatever_ends_the_program(
    stack: Stack, client: openai.OpenAI, tmp_path: pathlib.Path
) -> None:
    texts, vectors = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    texts.write_text("".join("\n" if n == EMPTY else f"text {n} of {tmp_path.name}\n" for n in range(TEXTS)))
    before = {batch.id for batch in client.batches.list()}
    command = [sys.executable, str(EMBED), str(texts), str(vectors)]
    settings = {"OPENAI_BASE_URL": f"{stack.url}/v1", "OPENAI_API_KEY": stack.keys["acme"]}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True)

    def fresh() -> set[str]:
        return {batch.id for batch in client.batches.list()} - before

    with start() as first:
        wait_until("the batch", fresh, LIMIT_S)
        first.send_signal(signal.SIGINT)
        told = first.communicate(timeout=LIMIT_S)[1]
        assert first.returncode == 130, told
        assert "goes on without this program" in " ".join(told.split())
    with start() as second:
        told = second.communicate(timeout=LIMIT_S)[1]
        assert second.returncode == 1, told
    assert len(fresh()) == 1
    assert f"line {EMPTY + 1}: " in told
    assert f"{TEXTS - 1} of {TEXTS} texts" in told
    got = np.load(vectors)
    assert got.shape == (TEXTS, 384)
    assert not np.isfinite(got[EMPTY]).any()
    for n in (0, EMPTY + 1, TEXTS - 1):
        alone = client.embeddings.create(model=MODEL, input=f"text {n} of {tmp_path.name}", encoding_format="float")
        assert got[n].tolist() == np.asarray(alone.data[0].embedding, np.float32).tolist()
