"""The models folder changes in one step or not at all."""

import concurrent.futures
import json
import pathlib
import threading

import pytest

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, strict_json
from triptych_research.bundle import BundleError
from triptych_research.store import HISTORY, Current, Store, StoreError

Files = dict[str, bytes]


def variant(files: Files, owner: str) -> Files:
    """Return a bundle that differs in a word of its manifest, and so in its revision."""
    manifest = strict_json.parse(files["bundle.json"], bundle_pb2.Manifest, "bundle.json", bundle.MAY_BE_EMPTY)
    manifest.source.owner = owner
    return files | {"bundle.json": strict_json.dump(manifest)}


def add(store: Store, files: Files, count: int) -> list[str]:
    return [store.add("tiny", variant(files, f"owner {index}")) for index in range(count)]


def everything_in(folder: pathlib.Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_bundle_is_found_where_the_architecture_says(store: Store, tiny_files: Files) -> None:
    revision = store.add("tiny", tiny_files | {"CARD.md": b"measured"})
    assert store.promote("tiny", revision) == Current(revision)
    assert json.loads((store.root / "tiny/current").read_bytes()) == {"revision": revision, "history": []}
    assert everything_in(store.root / "tiny") == {
        "current",
        revision,
        *(f"{revision}/{name}" for name in [*tiny_files, "CARD.md"]),
    }
    assert store.names() == ["tiny"]
    assert store.revisions("tiny") == [revision]
    assert store.current_path("tiny") == store.root / "tiny" / revision


def test_others_may_read_a_bundle(store: Store, tiny_files: Files) -> None:
    path = store.path("tiny", store.add("tiny", tiny_files))
    store.promote("tiny", path.name)
    plain = store.root / "plain"
    plain.mkdir()
    for each in (path, *path.iterdir(), store.root / "tiny/current"):
        assert each.stat().st_mode & 0o444 == plain.stat().st_mode & 0o444


def test_promotions_are_rolled_back_newest_first(store: Store, tiny_files: Files) -> None:
    first, second, third = add(store, tiny_files, 3)
    for revision in (first, second, third):
        store.promote("tiny", revision)
    assert store.current("tiny") == Current(third, (second, first))
    assert store.rollback("tiny") == Current(second, (first,))
    assert store.rollback("tiny") == Current(first)
    with pytest.raises(StoreError, match=r"tiny/current: no revision to go back to"):
        store.rollback("tiny")


def test_a_revision_is_never_its_own_history(store: Store, tiny_files: Files) -> None:
    first, second = add(store, tiny_files, 2)
    for revision in (first, second, first, first):
        store.promote("tiny", revision)
    assert store.current("tiny") == Current(first, (second,))


def test_history_is_bounded(store: Store, tiny_files: Files) -> None:
    revisions = add(store, tiny_files, HISTORY + 2)
    for revision in revisions:
        store.promote("tiny", revision)
    assert store.current("tiny") == Current(revisions[-1], tuple(reversed(revisions[1:-1])))


def test_promoting_the_current_one_replays_nothing(
    store: Store, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did when it became current; containers promote at each start."""
    (first,) = add(store, tiny_files, 1)
    current = store.promote("tiny", first)

    def verify(*_: object) -> None:
        raise AssertionError("replayed")

    monkeypatch.setattr(bundle, "verify", verify)
    assert store.promote("tiny", first) == current
    (store.root / "tiny" / first / "golden.json").write_bytes(b"{}")
    with pytest.raises(BundleError, match="golden"):
        store.promote("tiny", first)


def test_a_damaged_revision_is_neither_promoted_nor_gone_back_to(store: Store, tiny_files: Files) -> None:
    first, second = add(store, tiny_files, 2)
    for revision in (first, second):
        store.promote("tiny", revision)
    (store.path("tiny", first) / "golden.json").write_bytes(b"{}")
    with pytest.raises(BundleError, match="golden"):
        store.rollback("tiny")
    with pytest.raises(BundleError, match="golden"):
        store.promote("tiny", first)
    assert store.current("tiny") == Current(second, (first,))


def test_a_damaged_revision_is_made_good_by_adding_it_again(store: Store, tiny_files: Files) -> None:
    revision = store.add("tiny", tiny_files)
    (store.path("tiny", revision) / "golden.json").unlink()
    assert store.add("tiny", tiny_files) == revision
    bundle.verify(store.path("tiny", revision))


def test_adding_a_revision_again_replaces_its_card_alone(store: Store, tiny_files: Files) -> None:
    path = store.path("tiny", store.add("tiny", tiny_files | {"CARD.md": b"old"}))
    graph = (path / "model.block_quantized.onnx").stat().st_ino
    store.add("tiny", tiny_files | {"CARD.md": b"new"})
    assert (path / "CARD.md").read_bytes() == b"new"
    assert (path / "model.block_quantized.onnx").stat().st_ino == graph


def test_a_bundle_that_fails_its_checks_leaves_nothing(store: Store, tiny_files: Files) -> None:
    golden = strict_json.parse(tiny_files["golden.json"], bundle_pb2.GoldenFile, "golden.json")
    golden.embeddings[0].vector[0] += 0.5
    broken = tiny_files | {"golden.json": strict_json.dump(golden)}
    manifest = strict_json.parse(broken.pop("bundle.json"), bundle_pb2.Manifest, "bundle.json", bundle.MAY_BE_EMPTY)
    del manifest.files[:]
    manifest.files.extend(bundle.describe_files(broken))
    with pytest.raises(BundleError, match="max_abs_error"):
        store.add("tiny", broken | {"bundle.json": strict_json.dump(manifest)})
    assert everything_in(store.root) == {"tiny"}


def test_what_a_crash_left_is_cleared_and_never_listed(store: Store, tiny_files: Files) -> None:
    left = store.root / "tiny/.new-abc/tiny/0123456789abcdef"
    left.mkdir(parents=True)
    (left / "bundle.json").touch()
    assert store.revisions("tiny") == []
    revision = store.add("tiny", tiny_files)
    assert {path.name for path in (store.root / "tiny").iterdir()} == {revision}


def test_current_is_replaced_and_not_rewritten(store: Store, tiny_files: Files) -> None:
    first, second = add(store, tiny_files, 2)
    store.promote("tiny", first)
    with (store.root / "tiny/current").open("rb") as held_by_a_reader:
        store.promote("tiny", second)
        # A reader that has opened the file sees all of the old one. Written in place it would see the new, or nothing.
        assert json.loads(held_by_a_reader.read())["revision"] == first
    assert {path.name for path in (store.root / "tiny").iterdir()} == {"current", first, second}


def test_readers_never_see_anything_but_whole_states(store: Store, tiny_files: Files) -> None:
    revisions = add(store, tiny_files, 2)
    store.promote("tiny", revisions[0])
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not done.is_set() or reads == 0:
            current = json.loads((store.root / "tiny/current").read_bytes())
            assert current["revision"] in revisions
            assert set(current["history"]) <= set(revisions) - {current["revision"]}
            reads += 1
        return reads

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for turn in range(1, 12):
            store.promote("tiny", revisions[turn % 2])
        done.set()
        assert all(reader.result() > 0 for reader in readers)


def test_of_two_promotions_at_once_neither_forgets_the_other(
    store: Store, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    revisions = add(store, tiny_files, 3)
    store.promote("tiny", revisions[0])
    read = Store.current
    both_have_read = threading.Barrier(2)

    def slow_current(self: Store, name: str) -> Current | None:
        current = read(self, name)
        # Without turns both would read the same state here, and the later writer would undo the earlier. With turns the
        # second comes when the first is done, so nobody arrives.
        try:
            both_have_read.wait(timeout=0.5)
        except threading.BrokenBarrierError:
            both_have_read.reset()
        return current

    monkeypatch.setattr(Store, "current", slow_current)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda revision: store.promote("tiny", revision), revisions[1:]))
    current = read(store, "tiny")
    assert current is not None
    assert {current.revision, *current.history} == set(revisions)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"0123456789abcdef",
        b"[]",
        b"null",
        b'{"revision": "0123456789abcdef"}',
        b'{"revision": "0123456789abcdef", "history": 3}',
        b'{"revision": "../../etc", "history": []}',
        b'{"revision": "0123456789abcdef", "history": ["x"]}',
        b'{"revision": "0123456789abcdef", "history": [], "x": 1}',
        b"\xff",
        b'{"revision": "0123456789abcdef", "revision": "0123456789abcdef", "history": []}',
        b"[" * 2**15,
        b'{"revision": "0123456789abcdef", "history": []}' + b" " * 2**16,
    ],
    ids=lambda content: ascii(content[:60]),
)
def test_a_current_that_is_damaged_is_an_error(store: Store, content: bytes) -> None:
    (store.root / "tiny").mkdir(parents=True)
    (store.root / "tiny/current").write_bytes(content)
    with pytest.raises(StoreError, match=r"tiny/current: not a JSON object with a revision and a history"):
        store.current("tiny")


def test_what_is_not_there_is_named(store: Store) -> None:
    for ask in (store.revisions, store.rollback):
        with pytest.raises(StoreError, match="tiny: no such model"):
            ask("tiny")
    with pytest.raises(StoreError, match="tiny/0123456789abcdef: no such revision"):
        store.promote("tiny", "0123456789abcdef")
    with pytest.raises(StoreError, match="tiny/current: no current revision"):
        store.current_path("tiny")
    assert store.names() == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 65, "a\n"])
def test_a_name_that_is_no_models_name_goes_nowhere(store: Store, tiny_files: Files, name: str) -> None:
    with pytest.raises(BundleError, match="a model's name is "):
        store.add(name, tiny_files)
    assert not store.root.exists()


@pytest.mark.parametrize("revision", ["", "..", "current", "0123456789ABCDEF"])
def test_a_revision_that_is_none_goes_nowhere(store: Store, tiny_files: Files, revision: str) -> None:
    store.promote("tiny", store.add("tiny", tiny_files))
    with pytest.raises(StoreError, match="no such revision"):
        store.promote("tiny", revision)


def test_a_current_bundle_is_copied_from_another_folder(
    store: Store, tiny_files: Files, tmp_path: pathlib.Path
) -> None:
    store.promote("tiny", store.add("tiny", tiny_files | {"CARD.md": b"measured"}))
    other = Store(tmp_path / "other")
    revision = other.add_current(store, "tiny")
    assert everything_in(other.root / "tiny" / revision) == everything_in(store.root / "tiny" / revision)
    assert other.add_current(store, "tiny") == revision
    assert (other.root / "tiny" / revision / "CARD.md").read_bytes() == b"measured"
