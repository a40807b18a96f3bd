"""The golden journey, shown as it happens: a request with curl, then the official SDK: a chat, a ranking, a verdict."""

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
CHAT_MODEL = "smollm2-135m-instruct"
QUESTION = "How do I get my money back?"
SENTENCES = [
    "Refunds are paid within five working days.",
    "Send the parcel back and we return what you paid.",
    "Our office is closed on public holidays.",
    "The cat sleeps on the warm keyboard.",
]
PROMPT = "Why is it good to test software?"
VERDICTS = [
    "The cat sleeps on the warm keyboard.",
    "My neighbours are Muslims.",
    "You are a worthless idiot and everybody hates you.",
    "They undressed each other and had passionate sex all night.",
]
CHAT_CODE = """\
client = openai.OpenAI(base_url="{url}/v1", api_key=KEY)
messages = [{{"role": "user", "content": "{prompt}"}}]
for chunk in client.chat.completions.create(
    model="{model}", messages=messages, stream=True,
    temperature=0, max_tokens=60,
):
    print(chunk.choices[0].delta.content or "", end="")"""
MODERATION_CODE = """\
for result in client.moderations.create(input=texts).results:
    print(result.flagged, result.advisory_categories, result.category_scores)"""
EMBEDDING_CODE = """\
texts = [question, *sentences]
reply = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
vectors = np.array([entry.embedding for entry in reply.data])
scores = vectors[1:] @ vectors[0]  # cosines: vectors have length 1"""
SHOWN = 100  # characters of a vector of 384 numbers


def journey(stack: Stack) -> None:
    """Make the requests and show their real output."""
    console.rule("[bold]One request, with curl")
    with_curl(stack)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"]) as client:
        console.rule("[bold]The official SDK: a chat, streamed")
        converse(stack, client)
        console.rule("[bold]Sentences ranked by meaning")
        rank(client)
        console.rule("[bold]A moderation verdict")
        judge(client)


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


def converse(stack: Stack, client: openai.OpenAI) -> None:
    code = CHAT_CODE.format(url=stack.url, prompt=PROMPT, model=CHAT_MODEL)
    console.print(Syntax(code, "python", background_color="default"))
    chunks = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": PROMPT}],
        temperature=0,
        max_tokens=60,
        stream=True,
        stream_options={"include_usage": True},
    )
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            console.print(choice.delta.content or "", end="", style="bold", soft_wrap=True, highlight=False)
    if usage is None:
        raise StackError("the stream ended without its usage")
    console.print(f"\n{usage.prompt_tokens} tokens of prompt, {usage.completion_tokens} of reply\n")


def rank(client: openai.OpenAI) -> None:
    console.print(Syntax(EMBEDDING_CODE, "python", background_color="default"))
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


def judge(client: openai.OpenAI) -> None:
    console.print(Syntax(MODERATION_CODE, "python", background_color="default"))
    table = Table(show_edge=False)
    for name in ("flagged", "advice", "highest score", "text"):
        table.add_column(name)
    for text, result in zip(VERDICTS, client.moderations.create(input=VERDICTS).results, strict=True):
        scores: dict[str, float] = result.category_scores.model_dump(by_alias=True)
        highest = max(scores, key=scores.__getitem__)
        advice = [name for name, said in (result.model_extra or {})["advisory_categories"].items() if said]
        flagged = "yes" if result.flagged else "no"
        table.add_row(flagged, ", ".join(advice) or "none", f"{highest} {scores[highest]:.2f}", text)
    console.print(table, "")


def next_steps() -> None:
    """Say how to go on."""
    console.rule("[bold]Next")
    table = Table(show_header=False, box=None)
    table.add_row("make run", "keeps it up; make up does so in containers")
    table.add_row("make test", "proves it")
    table.add_row("README.md", "what is where, and how to make it yours")
    console.print(table)
