"""Training, from labelled texts to committed numbers, as a person types it."""

import dataclasses
import gzip
import hashlib
import json
import pathlib

import numpy as np
import pytest

from triptych_research import cli, texts
from triptych_research.bundle import Bundle
from triptych_research.classification import dataset, thresholds, train, validation
from triptych_research.classification import head as head_file
from triptych_research.recipes import ENCODER
from triptych_research.sources import Packaged
from triptych_research.store import Store
from triptych_research.texts import Labelled, Texts


@pytest.fixture
def data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Texts of two alphabets: those of the first are all categories, the labels of every fifth text are unknown."""
    random = np.random.default_rng(0)
    rows = []
    for index in range(120):
        positive = index % 3 == 0
        letters = random.choice(list("abcdefgh" if positive else "stuvwxyz"), size=int(random.integers(5, 90)))
        labels = {} if index % 5 == 0 else dict.fromkeys(dataset.CATEGORIES, int(positive))
        rows.append({"prompt": " ".join(letters), **labels})
    content = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / dataset.FILE).write_bytes(content)
    load, digest = dataset.load, hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(dataset, "load", lambda folder: load(folder, digest))
    return tmp_path / "data"


def few(letters: str) -> Labelled:
    """Ordinary texts: of the second alphabet."""
    random = np.random.default_rng(1)
    return Labelled([" ".join(random.choice(list(letters), size=9)) for _ in range(30)], ["letters"] * 30)


def test_texts_become_a_head(
    data: pathlib.Path,
    tiny_bundle: Bundle,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store.promote("tiny", tiny_bundle.revision)
    monkeypatch.setattr(cli, "ENCODER", dataclasses.replace(ENCODER, name="tiny"))
    monkeypatch.setattr(validation, "SAME_TEXT", 1.1)  # to random weights all texts are alike
    monkeypatch.setattr(texts, "load", lambda: Texts(few("stuv"), few("uvw"), few("vwxyz")))
    heads = []
    for output in (data / "first", data / "second"):
        output.mkdir()
        command = ["--models", str(store.root), "train-moderation", "--data", str(data), "--output", str(output)]
        assert cli.main(command) == 0
        heads.append((output / head_file.FILE).read_bytes())
    assert heads[0] == heads[1]  # the same texts, the same head
    assert "violence/graphic" in capsys.readouterr().out

    head = head_file.load(Packaged(data / "first", "small", head_file.FILE, "MIT", "me").fetch(data))
    assert (head.encoder, head.encoder_sha256) == ("tiny", tiny_bundle.manifest.source.sha256)
    scores = json.loads((data / "first" / train.SCORES_FILE).read_bytes())
    assert scores["texts"] == 120
    assert scores["windows"] > 120  # some are longer than the encoder takes
    for label, category in zip(head.labels, scores["categories"], strict=True):
        said = (category["name"], category["threshold"], category["advisory"])
        assert said == (label.name, label.threshold, label.advisory)
        assert not category["advisory"]  # two alphabets are easily told apart
        assert category["at_unseen"]["precision"] >= thresholds.MIN_PRECISION
        assert category["seen_false_alarms"] <= thresholds.MAX_FALSE_ALARMS
        assert (category["texts"], category["positives"]) == (96, 32)
        assert category["auc"]["low"] <= category["auc"]["value"] <= category["auc"]["high"]
        assert category["auc"]["value"] > 0.9
    assert scores["ordinary_seen"] == 60
    assert scores["ordinary"] == [{"topic": "letters", "texts": 30, "flagged": 0, "advised": 0}]
    assert scores["flagged"]["high"] > scores["flagged"]["value"] == 0


def test_another_set_is_refused(
    tmp_path: pathlib.Path, tiny_bundle: Bundle, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.promote("tiny", tiny_bundle.revision)
    (tmp_path / dataset.FILE).write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "ENCODER", dataclasses.replace(ENCODER, name="tiny"))
        assert cli.main(["--models", str(store.root), "train-moderation", "--data", str(tmp_path)]) == 1
    assert f"sha256 is {hashlib.sha256(b'').hexdigest()}, not {dataset.SHA256}" in capsys.readouterr().err
