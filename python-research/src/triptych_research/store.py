"""The models folder: which revisions there are, and which one is current.

    models/<name>/current               {"revision": "…", "history": ["…"]}
    models/<name>/<revision>/           a bundle

Everything that changes here changes by one rename, so that a reader at any moment sees the old state or the new one. A
power cut does not undo that: files and folders are flushed before and after.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from triptych_research import bundle, strict_json
from triptych_research.bundle import BundleError

CURRENT = "current"
# How many promotions can be rolled back.
HISTORY = 10
_TEMPORARY = ".new-"
MAX_CURRENT_BYTES = 2**16


class StoreError(Exception):
    """The models folder does not hold what was asked for."""


@dataclass(frozen=True)
class Current:
    """Which revision is served, and those before it, newest first."""

    revision: str
    history: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        return (json.dumps({"revision": self.revision, "history": list(self.history)}) + "\n").encode()


class Store:
    """A models folder. Changes by several processes at once take turns."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Return the models that have a folder, ordered."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and bundle.NAME.fullmatch(path.name))

    def revisions(self, name: str) -> list[str]:
        """Return a model's revisions, ordered."""
        folder = self._model(name)
        if not folder.is_dir():
            raise StoreError(f"{folder}: no such model")
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and bundle.REVISION.fullmatch(path.name))

    def path(self, name: str, revision: str) -> pathlib.Path:
        """Return a revision's folder. Raises StoreError when there is none."""
        path = self._model(name) / revision
        if not bundle.REVISION.fullmatch(revision) or not path.is_dir():
            raise StoreError(f"{path}: no such revision")
        return path

    def current_path(self, name: str) -> pathlib.Path:
        """Return the current revision's folder. Raises StoreError when no revision is current."""
        current = self.current(name)
        if current is None:
            raise StoreError(f"{self._model(name) / CURRENT}: no current revision")
        return self.path(name, current.revision)

    def current(self, name: str) -> Current | None:
        """Return which revision is current; None before the first promotion."""
        path = self._model(name) / CURRENT
        try:
            with path.open("rb") as file:
                raw = strict_json.loads(file.read(MAX_CURRENT_BYTES + 1), MAX_CURRENT_BYTES)
            current = Current(raw["revision"], tuple(raw["history"]))
            revisions = [current.revision, *current.history]
            if raw.keys() != {"revision", "history"} or not all(map(bundle.REVISION.fullmatch, revisions)):
                raise ValueError(raw)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: not a JSON object with a revision and a history of revisions") from error
        return current

    def add(self, name: str, files: Mapping[str, bytes]) -> str:
        """Write a bundle, verify it and put it in place. Returns its revision.

        A revision that is there and whole stays; only its card is replaced. After BundleError there is nothing.
        """
        revision = bundle.revision_of(files[bundle.MANIFEST])
        self._model(name).mkdir(parents=True, exist_ok=True)
        with self._turn(name), self._temporary(name) as temporary:
            place = self._model(name) / revision
            if _is_whole(place):
                for file in bundle.CARD_FILES & files.keys():
                    _write(temporary / file, files[file])
                    (temporary / file).replace(place / file)
                return revision
            staged = temporary / name / revision  # named as it will be, so that it can be checked as it will be
            staged.mkdir(parents=True)
            for file, content in files.items():
                _write(staged / file, content)
            _flush(staged)
            bundle.verify(staged, self.current_path)
            shutil.rmtree(place, ignore_errors=True)  # it may be there and damaged
            staged.rename(place)
            _flush(place.parent)
        return revision

    def add_current(self, source: "Store", name: str) -> str:
        """Copy the current bundle of another models folder. Returns its revision."""
        folder = source.current_path(name)
        bundle.read(folder)
        return self.add(name, {path.name: path.read_bytes() for path in folder.iterdir()})

    def promote(self, name: str, revision: str) -> Current:
        """Make a revision current, after verifying it. Of the current one, only whether it is whole is checked."""
        path, current = self.path(name, revision), self.current(name)
        if current is not None and current.revision == revision:
            bundle.read(path)
            return current
        bundle.verify(path, self.current_path)
        with self._turn(name):
            before = self.current(name)
            if before is not None and before.revision == revision:
                return before
            history = (before.revision, *before.history) if before else ()
            return self._switch(name, Current(revision, tuple(old for old in history if old != revision)[:HISTORY]))

    def rollback(self, name: str) -> Current:
        """Make the revision before the current one current again, after verifying it."""
        with self._turn(name):
            before = self.current(name)
            if before is None or not before.history:
                raise StoreError(f"{self._model(name) / CURRENT}: no revision to go back to")
            previous, *history = before.history
            bundle.verify(self.path(name, previous), self.current_path)
            return self._switch(name, Current(previous, tuple(history)))

    def _model(self, name: str) -> pathlib.Path:
        bundle.check_name(name)
        return self.root / name

    def _switch(self, name: str, current: Current) -> Current:
        folder = self._model(name)
        with self._temporary(name) as temporary:
            _write(temporary / CURRENT, current.to_json())
            (temporary / CURRENT).replace(folder / CURRENT)
        _flush(folder)
        return current

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[pathlib.Path]:
        """Make a folder on the same file system, which no reader takes for a revision. To be called in a turn."""
        folder = self._model(name)
        for left_by_a_crash in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left_by_a_crash, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=folder) as temporary:
            yield pathlib.Path(temporary)

    @contextlib.contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """Hold the model's folder, so that of two changes at once neither undoes the other."""
        try:
            descriptor = os.open(self._model(name), os.O_RDONLY)
        except FileNotFoundError:
            raise StoreError(f"{self._model(name)}: no such model") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_whole(path: pathlib.Path) -> bool:
    try:
        bundle.read(path)
    except BundleError:
        return False
    return True


def _write(path: pathlib.Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
