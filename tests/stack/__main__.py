"""`make run` and `make demo`."""

import argparse
import dataclasses
import os
import sys
import threading
from collections.abc import Callable

from rich.table import Table

from stack import demo
from stack.description import RUN_FOLDER, STACK_JSON, Stack
from stack.native import NativeStack, Ports
from stack.terminal import console, is_terminal, until_told_to_stop
from stack.waiting import StackError, Stopped

DEFAULT_PORTS = Ports(http=8080, grpc=50051, gateway_metrics=9464, hotpath_metrics=9465, admin=9466)
LOOK_INTERVAL_S = 0.5


def ports() -> Ports:
    """The ports to listen on: the usual ones, or those that the environment names."""
    wanted = {}
    for field in dataclasses.fields(Ports):
        variable = Ports.variable(field.name)
        value = os.environ.get(variable, str(getattr(DEFAULT_PORTS, field.name)))
        if not value.isdecimal() or int(value) > 65535:
            raise StackError(f"{variable} must be a port from 0 to 65535, not {value!r}")
        wanted[field.name] = int(value)
    return Ports(**wanted)


def run() -> None:
    """Start the stack natively and keep it up until Ctrl-C."""
    with_native(lambda stack, native, stop: keep_up(stack, native, stop))


def run_demo() -> None:
    """Start the stack natively, show the journey, and keep it up if somebody is there to stop it."""

    def show(stack: Stack, native: NativeStack, stop: threading.Event) -> None:
        demo.journey(stack)
        demo.next_steps()
        if is_terminal():
            keep_up(stack, native, stop)

    with_native(show)


def with_native(use: Callable[[Stack, NativeStack, threading.Event], None]) -> None:
    """Start, use, and always stop."""
    with until_told_to_stop() as stop:
        native = NativeStack(RUN_FOLDER / "native", ports=ports())
        try:
            with console.status("Starting hot path and gateway …"):
                stack = native.start(proven=False, give_up=stop.is_set)
            stack.write()
            use(stack, native, stop)
        finally:
            STACK_JSON.unlink(missing_ok=True)
            with console.status("Stopping …"):
                native.stop()
    console.print("Stopped.")


def keep_up(stack: Stack, native: NativeStack, stop: threading.Event) -> None:
    """Tell where everything is, and wait for Ctrl-C or for a service that dies."""
    console.rule("[bold]Up")
    tell(stack)
    console.print("Ctrl-C stops it.")
    while not stop.wait(LOOK_INTERVAL_S):
        native.check_alive()


def tell(stack: Stack) -> None:
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("API", f"{stack.url}/v1")
    if stack.grpc:
        table.add_row("gRPC", stack.grpc)
    table.add_row("metrics", f"{stack.metrics_url}  {stack.hotpath_metrics_url}")
    if stack.admin_url:
        table.add_row("admin", f"{stack.admin_url}  its token is in {stack.admin_token_file}")
    for tenant, key in stack.keys.items():
        table.add_row(f"key of {tenant}", key)
    for service, log in stack.logs.items():
        table.add_row(f"log of {service}", log)
    table.add_row("for scripts", str(STACK_JSON))
    console.print(table)


COMMANDS = {"run": run, "demo": run_demo}


def main() -> None:
    parser = argparse.ArgumentParser(prog="stack", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    try:
        COMMANDS[parser.parse_args().command]()
    except Stopped:
        console.print("Stopped.")
    except StackError as error:
        console.print(f"[red]{error}", highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
