"""`make pictures`: draws each dashboard as it looks while things happen to a stack, for docs/operations.md."""

import argparse
import pathlib
import tempfile

from rich.console import Console

from dashboards import draw, story
from stack.description import ROOT
from stack.prometheus import prometheus
from stack.redis import redis_server

OUT = ROOT / "docs/dashboards"


def main() -> None:
    parser = argparse.ArgumentParser(prog="dashboards", description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="the folder to write into")
    parser.add_argument("--quick", action="store_true", help="let everything happen for a moment, for tests")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out == OUT:
        parser.error("--quick shows nothing worth keeping: choose another --out")
    effort = story.QUICK if arguments.quick else story.FULL
    programs = prometheus(), redis_server()
    if programs[0] is None or programs[1] is None:
        raise SystemExit("dashboards: prometheus and redis-server are needed (Debian: packages of these names)")
    console = Console()
    with (
        tempfile.TemporaryDirectory() as folder,
        console.status("a stack and what watches it start") as status,
        story.stage(programs[0], programs[1], pathlib.Path(folder)) as (native, redis, watch),
    ):
        for what in story.play(native, redis, watch, effort):
            status.update(what)
        for name in draw.names():
            draw.draw(name, watch.ask, watch.happened, watch.now(), arguments.out / f"{name}.svg")
            console.print(f"{name}.svg")
    console.print(", ".join(f"{letter}: {what}" for letter, what in watch.told.items()))


if __name__ == "__main__":
    main()
