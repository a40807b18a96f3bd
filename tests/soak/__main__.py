"""`make soak`: hostile requests of two tenants for a time, a bystander beside them, and a verdict.

Exits 1 when a service died, grew, logged a fault or answered with one, or kept the bystander waiting.
"""

import argparse
import collections
import functools
import itertools
import pathlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import grpc
import httpx
from matplotlib.axes import Axes
from rich.console import Console
from rich.live import Live
from rich.table import Table

from plots import GOLD, RUST, save_plot
from soak import attacks, grpc_attacks
from soak.watch import LIMITS_S, Watch, p
from stack.description import RUN_FOLDER, Stack
from stack.native import NativeStack

ATTACKERS = 12  # threads, of which each third is the smaller tenant's
LOOK_S = 2.0
MOST_FAILURES = 50  # told; a soak that fails everywhere has told enough


class Soak:
    """The attackers and what they found."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack, self.seed = stack, seed
        self.watch = Watch(stack)
        self.outcomes: collections.Counter[str] = collections.Counter()
        self._over = threading.Event()

    def run(self, seconds: float, console: Console) -> None:
        """Attack, and look on, until the time is over."""
        threads = [threading.Thread(target=self._attack, args=[number]) for number in range(ATTACKERS)]
        threads += [threading.Thread(target=self._attack_hotpath), threading.Thread(target=self._stand_by)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        try:
            with Live(console=console, refresh_per_second=1, transient=True) as live:
                while time.monotonic() < end and len(self.watch.failures) < MOST_FAILURES:
                    self.watch.look()
                    live.update(self.table(f"{max(0.0, end - time.monotonic()):.0f} s to go"))
                    time.sleep(LOOK_S)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        self.watch.wait_for_rest()

    def _attack(self, number: int) -> None:
        rng = random.Random(f"{self.seed}-{number}")
        tenant = "tiny" if number % 3 == 0 else "acme"
        headers = {"authorization": f"Bearer {self.stack.keys[tenant]}"}
        while not self._over.is_set():
            with httpx.Client(base_url=self.stack.url, headers=headers, timeout=attacks.TIMEOUT_S) as http:
                self._note(functools.partial(attacks.choose(rng).run, http, self._over))
            if rng.random() < 0.1:
                self._note(lambda: attacks.cut_short(rng, self.stack, tenant))
            if tenant == "tiny":
                self._over.wait(0.2)  # nearly all that it gets is 429

    def _attack_hotpath(self) -> None:
        rng = random.Random(f"{self.seed}-grpc")
        with grpc.insecure_channel(self.stack.grpc, options=[("grpc.max_receive_message_length", -1)]) as channel:
            while not self._over.is_set():
                self._note(lambda: grpc_attacks.attack(channel, rng))

    def _stand_by(self) -> None:
        headers = {"authorization": f"Bearer {self.stack.keys['globex']}"}
        with httpx.Client(base_url=self.stack.url, headers=headers, timeout=attacks.TIMEOUT_S) as http:
            while not self._over.is_set():
                try:
                    self.watch.bystander(http)
                except httpx.TransportError as error:
                    self.watch.failures.append(f"a bystander's request: {type(error).__name__} {error}")
                self._over.wait(0.5)

    def _note(self, attack: Callable[[], str]) -> None:
        try:
            self.outcomes[attack()] += 1
        except (attacks.Wrong, OSError, httpx.HTTPError, ValueError, KeyError) as error:
            self.outcomes["wrong"] += 1
            self.watch.failures.append(f"{type(error).__name__}: {error}"[:500])

    def table(self, title: str) -> Table:
        table = Table(title=title, box=None)
        for column in ("what", "count", "", "seconds p50 / p99 / most", "", "MiB now / most"):
            table.add_column(column)
        outcomes = [(name, str(count)) for name, count in self.outcomes.most_common(14)]
        waits = [(name, f"{p(w, 0.5):.2f} / {p(w, 0.99):.2f} / {p(w, 1):.2f}") for name, w in self.watch.waits.items()]
        memory = [(name, f"{s[-1][1] >> 20} / {max(b for _, b in s) >> 20}") for name, s in self.watch.memory.items()]
        for i in range(max(map(len, (outcomes, waits, memory)))):
            cells = [part[i] if i < len(part) else ("", "") for part in (outcomes, waits, memory)]
            table.add_row(*itertools.chain(*cells))
        return table

    def draw(self, path: pathlib.Path) -> None:
        """Memory and waits over the time."""

        def plot(axes: Axes) -> None:
            for (service, samples), colour in zip(self.watch.memory.items(), (RUST, GOLD), strict=False):
                axes.plot([s for s, _ in samples], [b >> 20 for _, b in samples], label=service, color=colour)
            axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, None))
            axes.legend(frameon=False)

        save_plot(path, plot)


def main() -> None:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed sends the same requests")
    arguments = parser.parse_args()
    console = Console()
    console.print(f"Soak for {arguments.seconds:.0f} s, seed {arguments.seed}; bystander's limits: {LIMITS_S}")
    with tempfile.TemporaryDirectory() as folder:
        native = NativeStack(pathlib.Path(folder))
        try:
            soak = Soak(native.start(), arguments.seed)
            soak.run(arguments.seconds, console)
            wrong = soak.watch.judge()
        finally:
            native.stop()
    console.print(soak.table("What came of it"))
    soak.draw(RUN_FOLDER / "soak.svg")
    for each in wrong[:MOST_FAILURES]:
        console.print(each, style="red", markup=False)
    console.print(f"{RUN_FOLDER / 'soak.svg'} has memory over time", highlight=False)
    print(f"{sum(soak.outcomes.values())} passed, {len(wrong)} failed")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
