"""The golden journey, shown as it happens: one request with curl, then the official SDK ranking sentences."""

import json
import os
import shlex
import subprocess

import numpy as np
import openai
from rich.syntax import Syntax
from rich.table import Table

from stack.description import Stack
from stack.terminal import console
from stack.waiting import StackError

MODEL = "all-minilm-l6-v2"
QUESTION = "How do I get my money back?"
SENTENCES = [
    "Refunds are paid within five working days.",
    "Send the parcel back and we return what you paid.",
    "Our office is closed on public holidays.",
    "The cat sleeps on the warm keyboard.",
]
CODE = """\
client = openai.OpenAI(base_url="{url}/v1", api_key=KEY)
texts = [question, *sentences]
reply = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
vectors = np.array([entry.embedding for entry in reply.data])
scores = vectors[1:] @ vectors[0]  # cosines: vectors have length 1"""
SHOWN = 100  # characters of a vector of 384 numbers


def journey(stack: Stack) -> None:
    """Make the requests and show their real output."""
    console.rule("[bold]One request, with curl")
    with_curl(stack)
    console.rule("[bold]The official SDK ranks sentences by meaning")
    with_sdk(stack)


def with_curl(stack: Stack) -> None:
    body = json.dumps({"model": MODEL, "input": QUESTION})
    lines = [
        f"curl -sS {stack.url}/v1/embeddings",
        '-H "Authorization: Bearer $KEY"',
        "-H 'Content-Type: application/json'",
        f"-d {shlex.quote(body)}",
    ]
    console.print(Syntax(" \\\n  ".join(["$ " + lines[0], *lines[1:]]), "console", background_color="default"))
    result = subprocess.run(
        ["bash", "-c", " ".join(lines)],
        env={**os.environ, "KEY": stack.keys["acme"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise StackError(f"curl ended with {result.returncode}: {result.stderr}")
    start, _, end = result.stdout.partition("]")
    console.print(f"{start[:SHOWN]}[dim]…[/]]{end}\n", markup=True, soft_wrap=True)


def with_sdk(stack: Stack) -> None:
    console.print(Syntax(CODE.format(url=stack.url), "python", background_color="default"))
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"]) as client:
        raw = client.embeddings.with_raw_response.create(model=MODEL, input=[QUESTION, *SENTENCES])
    reply = raw.parse()
    vectors = np.array([entry.embedding for entry in reply.data])  # [texts, 384]
    scores = vectors[1:] @ vectors[0]
    table = Table(title=f"“{QUESTION}”", title_justify="left", show_edge=False)
    table.add_column("similarity", justify="right")
    table.add_column("sentence")
    for index in np.argsort(-scores):
        table.add_row(f"{scores[index]:.3f}", SENTENCES[index])
    console.print(table)
    timing = f"{reply.usage.total_tokens} tokens; Server-Timing: {raw.headers['server-timing']}\n"
    console.print(timing, soft_wrap=True)


def next_steps() -> None:
    """Say how to go on."""
    console.rule("[bold]Next")
    table = Table(show_header=False, box=None)
    table.add_row("make run", "keeps it up; make up does so in containers")
    table.add_row("make test", "proves it")
    table.add_row("README.md", "what is where, and how to make it yours")
    console.print(table)
