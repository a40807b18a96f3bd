"""`make soak`, of upgrades: what a gateway of an earlier commit has left when it was killed, this one goes on with.

There are two: that of the commit before, and the last one with an older schema. Each makes keys, files, a webhook, and
two batches, of which one has not ended, with each database.
"""

import contextlib
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping

import openai
from rich.console import Console

from e2e.batches import completed, content, embed, ended, submit
from repo.tree import git
from stack.description import ROOT
from stack.native import GATEWAY, NativeStack
from stack.postgres import Postgres, postgres_programs
from stack.process import Process
from stack.waiting import StackError, wait_until

MIGRATIONS = "go-gateway/internal/store/migrations"
LINES, LINE_BYTES = 4_000, 8 << 10  # of 32 segments
LIMIT_S = 120


class Upgraded(NativeStack):
    """Tells an earlier gateway the settings that it has."""

    def _serve(
        self, name: str, program: pathlib.Path, settings: Mapping[str, str], env: Mapping[str, str] | None = None
    ) -> Process:
        if name == "gateway":
            said = subprocess.run([program, "serve", "-help"], capture_output=True, text=True, check=False)
            known = set(re.findall(r"^  -([\w-]+)", said.stdout + said.stderr, re.M))
            settings = {flag: value for flag, value in settings.items() if flag in known}
        return super()._serve(name, program, settings, env)


def earlier() -> dict[str, str]:
    """The commits, and what they are."""
    newest = max(git("ls-files", MIGRATIONS).splitlines())
    return {
        git("rev-parse", "HEAD~1").strip(): "the commit before",
        git("log", "--diff-filter=A", "--format=%H~1", "--max-count=1", "--", newest).strip(): f"before {newest}",
    }


def build(commit: str, folder: pathlib.Path) -> pathlib.Path:
    """The gateway of a commit."""
    archive = subprocess.run(["git", "archive", commit, "go-gateway"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "x"], cwd=folder, input=archive.stdout, check=True)
    program = folder / "gateway"
    command = ["go", "build", "-trimpath", "-o", str(program), "./cmd/gateway"]
    built = subprocess.run(command, cwd=folder / "go-gateway", capture_output=True, text=True, check=False)
    if built.returncode:
        raise StackError(f"the gateway of {commit} did not build:\n{built.stderr}")
    return program


def upgrade(folder: pathlib.Path, program: pathlib.Path, settings: Mapping[str, str]) -> list[str]:
    """What is wrong after an upgrade in the middle of a batch."""
    native = Upgraded(folder, gateway=settings, hotpath={"model-names": "all-minilm-l6-v2"})
    native.gateway_program = program
    lines = [embed(number) for number in range(LINES)]
    try:
        url, key = f"{native.start().url}/v1", native.keys["acme"]
        with openai.OpenAI(base_url=url, api_key=key, max_retries=20, timeout=LIMIT_S) as client:
            first = ended(client, submit(client, lines[:10]))
            before = content(client, first.output_file_id)
            hook = client.webhooks.create(name="a", url="https://receiver.example/", event_types=["batch.completed"])
            second = submit(client, lines, line_bytes=LINE_BYTES)
            wait_until("some lines are done", lambda: completed(client, second) > 0, LIMIT_S)
            assert native.gateway
            native.gateway.kill()
            native.gateway_program = GATEWAY
            native.start_gateway()
            done = completed(client, second)
            batch = ended(client, second, LIMIT_S)
            replies = content(client, batch.output_file_id)
            after = content(client, client.batches.retrieve(first.id).output_file_id)
            hooks = [found.id for found in client.webhooks.list()]
        native.run_gateway("data", "check")  # fails where the database is damaged
    finally:
        native.stop()
    used = sum(reply["response"]["body"]["usage"]["total_tokens"] for reply in replies)
    wrong = {
        f"{done} lines were done before the kill: it came too late": done == LINES,
        f"the batch is {batch.status}, of {batch.request_counts}": batch.request_counts.completed != LINES,
        "lines are lost, or are there twice": [r["custom_id"] for r in replies] != [r["custom_id"] for r in lines],
        f"{used} tokens are in the lines, and {batch.usage.total_tokens} in the batch": used
        != batch.usage.total_tokens,
        "the file of results from before is another one": before != after or len(after) != 10,
        f"the webhooks are {hooks}": hooks != [hook.id],
    }
    return [what for what, is_so in wrong.items() if is_so]


def main() -> None:
    console = Console()
    wrong, passed = [], 0
    try:
        commits = earlier()
    except subprocess.CalledProcessError as error:
        console.print(f"LOUD: no earlier commit is known, and upgrades are NOT tested: {error.stderr}", style="yellow")
        return
    programs = postgres_programs()
    if not programs:
        console.print("LOUD: there is no PostgreSQL: upgrades in it are NOT tested", style="yellow")
    for commit, what in commits.items():
        with tempfile.TemporaryDirectory() as built:
            gateway = build(commit, pathlib.Path(built))
            for postgres in (None, Postgres(programs)) if programs else (None,):
                with contextlib.ExitStack() as stop:
                    folder = pathlib.Path(stop.enter_context(tempfile.TemporaryDirectory()))
                    settings = {}
                    if postgres:
                        stop.callback(postgres.remove)
                        postgres.start()
                        settings = {"database-url": postgres.url, "blobs": str(folder / "blobs")}
                    found = upgrade(folder / "stack", gateway, settings)
                where = f"from {what}, {'PostgreSQL' if postgres else 'SQLite'}"
                wrong += [f"{where}: {each}" for each in found]
                passed += not found
                console.print(f"{where}: {'; '.join(found) or 'all is there'}", highlight=False)
    print(f"{passed} passed, {len(wrong)} failed")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
