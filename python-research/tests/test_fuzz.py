"""Whatever is done to a source's files, they are read or refused in one line: no trace, no hang, no end for memory.

Each target damages valid files, in a process with a bound on its memory and on the time for an answer. A longer run:
`TRIPTYCH_FUZZ_EXAMPLES=5000 pytest tests/test_fuzz.py`.
"""

import os
import pathlib
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator

import fuzzed
import pytest
import tiny_decoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triptych_research.store import Store

EXAMPLES = int(os.environ.get("TRIPTYCH_FUZZ_EXAMPLES", "60"))
ANSWER_SECONDS = 60  # a machine may be busy; a trial's own bound on processor time is two

fuzz = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
# Templates and tokenizers get a process each, which takes half a second.
slow_fuzz = settings(fuzz, max_examples=max(EXAMPLES // 6, 1))


class Child:
    """A process that reads sources; another one follows when one of them ended it."""

    def __init__(self) -> None:
        self._start()

    def read(self, kind: str, folder: pathlib.Path) -> str:
        """Return its answer; fails when there is none, or not in time."""
        if self.process.poll() is not None:
            self.close()
            self._start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(f"{kind} {folder}", file=self.process.stdin, flush=True)
        if not self.answers.select(ANSWER_SECONDS):
            self.process.kill()
            self.process.wait()
            pytest.fail(f"no answer within {ANSWER_SECONDS} s")
        answer = self.process.stdout.readline()
        if not answer:
            pytest.fail(f"the process ended: {self.process.wait()}; its trace is above")
        return answer.rstrip("\n")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.answers.close()

    def _start(self) -> None:
        path = os.pathsep.join(each for each in sys.path if each)
        self.process = subprocess.Popen(
            [sys.executable, fuzzed.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )
        self.answers = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self.answers.register(self.process.stdout, selectors.EVENT_READ)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


EXTREMES = (0, 1, 2**7, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63 - 1, 2**64 - 1)
WORDS = (b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b'"\\ud800"', b"9" * 5000, b"[" * 2000)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_VALUE = re.compile(rb'(?<=: )(?:"[^"]*"|[\w.-]+|\[|\{)')


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a file with up to three places changed: bytes, numbers in binary or in text, pieces cut or doubled."""
    for _ in range(draw(st.integers(1, 3))):
        # Most fields stand at the beginning; weights, at the end, are of no account.
        place = draw(st.integers(0, min(len(content), draw(st.sampled_from([64, 4096, len(content)])))))
        match draw(st.sampled_from(["byte", "binary", "number", "value", "cut", "shorten", "double"])):
            case "byte":
                content = content[:place] + draw(st.binary(min_size=1, max_size=1)) + content[place + 1 :]
            case "binary":
                size = draw(st.sampled_from([1, 4, 8]))
                number = draw(st.sampled_from(EXTREMES)) % 256**size
                content = content[:place] + number.to_bytes(size, "little") + content[place + size :]
            case "number" | "value" as what:
                found = (_NUMBER if what == "number" else _VALUE).search(content, place)
                word = draw(st.sampled_from([*WORDS, *(str(each).encode() for each in EXTREMES)]))
                if found:
                    content = content[: found.start()] + word + content[found.end() :]
            case "cut":
                content = content[:place]
            case "shorten":
                content = content[:place] + content[place + draw(st.integers(1, 200)) :]
            case "double":
                piece = content[place : place + draw(st.integers(1, 200))]
                content = content[:place] + piece * draw(st.sampled_from([2, 100])) + content[place:]
    return content


def check(child: Child, kind: str, folder: pathlib.Path, file: str, content: bytes, original: pathlib.Path) -> None:
    """Read a folder in which one file is another one."""
    try:
        (folder / file).write_bytes(content)
        answer = child.read(kind, folder)
        assert answer == "read" or answer.startswith("refused: ")
        assert len(answer) < 1100
    finally:
        shutil.copyfile(original / file, folder / file)


class Files:
    """Valid files, and a copy to be damaged."""

    def __init__(self, original: pathlib.Path, copy: pathlib.Path) -> None:
        self.original = original
        self.folder = shutil.copytree(original, copy)

    def content(self, file: str) -> bytes:
        return (self.original / file).read_bytes()


@pytest.fixture(scope="module")
def encoder(tiny_folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tiny_folder, tmp_path_factory.mktemp("fuzz") / "encoder")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("decoder")
    tiny_decoder.write_folder(folder, tiny_decoder.dense_weights())
    return Files(folder, tmp_path_factory.mktemp("fuzz") / "decoder")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("gguf")
    tiny_decoder.write_gguf(folder / "tiny.gguf", tiny_decoder.dense_weights())
    return Files(folder, tmp_path_factory.mktemp("fuzz") / "gguf")


@pytest.fixture(scope="module")
def models(tiny_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Files:
    store = Store(tmp_path_factory.mktemp("models"))
    store.promote("tiny", store.add("tiny", tiny_files))
    return Files(store.root, tmp_path_factory.mktemp("fuzz") / "models")


ENCODER_JSON = ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
DECODER_JSON = ("config.json", "tokenizer_config.json")


def test_what_is_not_damaged_is_read(child: Child, encoder: Files, decoder: Files, gguf: Files, models: Files) -> None:
    for kind, files in (("encoder", encoder), ("decoder", decoder), ("decoder", gguf), ("models", models)):
        assert child.read(kind, files.folder) == "read"


@given(data=st.data(), file=st.sampled_from((*ENCODER_JSON, "model.safetensors")))
@fuzz
def test_an_encoders_files(child: Child, encoder: Files, data: st.DataObject, file: str) -> None:
    content = data.draw(damages(encoder.content(file)))
    check(child, "encoder", encoder.folder, file, content, encoder.original)


@given(data=st.data(), file=st.sampled_from((*DECODER_JSON, "model.safetensors")))
@slow_fuzz
def test_a_decoders_files(child: Child, decoder: Files, data: st.DataObject, file: str) -> None:
    content = data.draw(damages(decoder.content(file)))
    check(child, "decoder", decoder.folder, file, content, decoder.original)


@given(data=st.data())
@fuzz
def test_a_gguf_file(child: Child, gguf: Files, data: st.DataObject) -> None:
    content = data.draw(damages(gguf.content("tiny.gguf")))
    check(child, "decoder", gguf.folder, "tiny.gguf", content, gguf.original)


@given(data=st.data())
@slow_fuzz
def test_a_tokenizer(child: Child, encoder: Files, data: st.DataObject) -> None:
    content = data.draw(damages(encoder.content("tokenizer.json")))
    check(child, "encoder", encoder.folder, "tokenizer.json", content, encoder.original)


@given(data=st.data(), file=st.sampled_from(["current", "bundle.json", "golden.json", "tokenizer.json"]))
@fuzz
def test_a_models_folder(child: Child, models: Files, data: st.DataObject, file: str) -> None:
    (revision,) = Store(models.original).revisions("tiny")
    path = f"tiny/{file}" if file == "current" else f"tiny/{revision}/{file}"
    content = data.draw(damages(models.content(path)))
    check(child, "models", models.folder, path, content, models.original)


PIECES = (
    *("{{ ", " }}", "{% for i in range(10**9) %}", "{% endfor %}", "{% macro m() %}", "{{ m() }}", "{% endmacro %}"),
    *("messages", "[0]", ".content", "'a' * 10**9", " | indent(10**9)", " | list", " | map('upper')", " ~ ", "1 / 0"),
    *(
        "{% if true %}",
        "{% endif %}",
        "{% set x = [1] * 10**8 %}",
        "x",
        "(" * 500,
        "raise_exception('a')",
        "''.__class__",
    ),
)


@given(source=st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | damages(tiny_decoder.TEMPLATE.encode()))
@slow_fuzz
def test_a_chat_template(child: Child, decoder: Files, source: str | bytes) -> None:
    content = source.encode() if isinstance(source, str) else source
    (decoder.folder / "tokenizer_config.json").write_text("{}")
    try:
        (decoder.folder / "chat_template.jinja").write_bytes(content)
        assert child.read("decoder", decoder.folder).startswith(("refused: ", "read"))
    finally:
        (decoder.folder / "chat_template.jinja").unlink()
        shutil.copyfile(decoder.original / "tokenizer_config.json", decoder.folder / "tokenizer_config.json")
