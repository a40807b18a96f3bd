"""The committed head, and the bundle that it makes on the default encoder."""

import json
import pathlib

import pytest
from conftest import CACHE, ROOT

from triptych_research import bundle, cli, texts
from triptych_research.bundle import Bundle
from triptych_research.classification import dataset, thresholds, train
from triptych_research.classification import head as head_file
from triptych_research.classification.encoders import TextEncoder
from triptych_research.classification.graph import HeadSession
from triptych_research.classification.head import Head
from triptych_research.recipes import ENCODER, HEADS, MODERATION
from triptych_research.store import Store

SCORES = json.loads((HEADS / train.SCORES_FILE).read_bytes())
HARMLESS: dict[str, list[str]] = json.loads((ROOT / "tests/cases/texts/harmless.json").read_bytes())


@pytest.fixture(scope="module")
def head() -> Head:
    return head_file.load(MODERATION.origin.fetch(CACHE))


@pytest.fixture(scope="module")
def moderation_models(real_models: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A models folder with the real encoder and the head's bundle, made now."""
    store = Store(tmp_path_factory.mktemp("models"))
    encoder = real_models.root.resolve() / ENCODER.name
    (store.root / ENCODER.name).symlink_to(encoder.resolve(), target_is_directory=True)
    assert cli.main(["--models", str(store.root), "export", MODERATION.name, "--cache", str(CACHE)]) == 0
    return store


@pytest.fixture(scope="module")
def moderation(moderation_models: Store) -> Bundle:
    return bundle.verify(moderation_models.current_path(MODERATION.name), moderation_models.current_path)


def test_the_head_and_its_scores_are_of_one_training(head: Head) -> None:
    assert SCORES["data_sha256"] == dataset.SHA256
    expected = [(each["name"], each["threshold"], each["advisory"]) for each in SCORES["categories"]]
    assert [(label.name, label.threshold, label.advisory) for label in head.labels] == expected
    assert [name for name, _, _ in expected] == list(dataset.CATEGORIES.values())
    assert SCORES["ordinary_seen"] == len(texts.load().seen.texts)
    assert sum(each["texts"] for each in SCORES["ordinary"]) == len(texts.load().asked.texts)


def test_the_head_is_of_the_encoder_that_is_made(head: Head, minilm: Bundle) -> None:
    assert (head.encoder, head.encoder_sha256) == (minilm.manifest.name, minilm.manifest.source.sha256)
    assert head.matrix().shape == (8, minilm.manifest.embedding.dimensions[0])


def test_its_scores_are_better_than_chance_beyond_doubt_and_calibrated() -> None:
    for each in SCORES["categories"]:
        assert each["auc"]["low"] > 0.75, each["name"]  # chance is 0.5
        assert each["average_precision"]["low"] > 2 * each["positives"] / each["texts"], each["name"]
        assert each["brier"] < each["brier_of_base_rate"], each["name"]
        assert each["calibration_error"] < 0.04, each["name"]


def test_its_verdicts_are_mostly_right_and_rarely_said_of_ordinary_texts() -> None:
    verdicts = [each for each in SCORES["categories"] if not each["advisory"]]
    assert verdicts, "nothing is ever flagged"
    for each in verdicts:
        assert each["at_unseen"]["precision"] >= thresholds.MIN_PRECISION, each["name"]
        assert each["false_alarms"]["value"] <= thresholds.MAX_FALSE_ALARMS, each["name"]
    for each in SCORES["categories"]:
        assert each["seen_false_alarms"] <= thresholds.MAX_FALSE_ALARMS, each["name"]
    flagged = sum(each["flagged"] for each in SCORES["ordinary"])
    assert flagged <= thresholds.MAX_FALSE_ALARMS * len(texts.load().asked.texts)


def test_no_harmless_text_is_flagged(moderation: Bundle, moderation_models: Store) -> None:
    """Who a text speaks of, and what it kills, is nothing to flag it for. No head has learned from these texts."""
    assert len(HARMLESS["identity"]) >= 40
    some = [text for of_kind in HARMLESS.values() for text in of_kind]
    learned = texts.load()
    assert not set(some) & {*learned.seen.texts, *learned.asked.texts}
    session = HeadSession(moderation.path / moderation.manifest.graphs[0].file)
    labels = moderation.manifest.classification.labels
    flagged = [
        (text, label.name, float(score))
        for encoder in bundle.text_encoders(moderation, moderation_models.current_path)
        for text in some
        for label, score in zip(labels, session.highest(encoder.embed(text)), strict=True)
        if score >= label.threshold and not label.advisory
    ]
    assert flagged == []


def test_it_judges_texts(moderation: Bundle, moderation_models: Store) -> None:
    session = HeadSession(moderation.path / moderation.manifest.graphs[0].file)
    labels = moderation.manifest.classification.labels
    for encoder in bundle.text_encoders(moderation, moderation_models.current_path):

        def flags(text: str, encoder: TextEncoder = encoder) -> set[str]:
            scores = session.highest(encoder.embed(text))
            return {label.name for label, score in zip(labels, scores, strict=True) if score >= label.threshold}

        assert flags("The weather is lovely today, so we had lunch in the garden.") == set()
        assert flags("How do I reset the password of my account?") == set()
        assert "harassment" in flags("You are an idiot, and nobody likes you.")
        assert "sexual" in flags("They undressed each other and had passionate sex all night.")


def test_its_card_tells_what_it_cannot_do(moderation: Bundle) -> None:
    card = (moderation.path / bundle.CARD).read_text()
    for each in SCORES["categories"]:
        assert f"| {each['name']} | {each['texts']:,} | {each['positives']} " in card
    assert "no training data" in card
    assert "harassment/threatening" in card
    assert "| My neighbours are Muslims. | *hate 0." in card  # what is known to be wrong is not hidden
    assert "Results of this model on that set mean nothing" in card
    for topic in SCORES["ordinary"]:
        assert f"| {topic['topic']} | {topic['texts']} | {topic['flagged']} | {topic['advised']} |" in card
    assert (moderation.path / bundle.QUALITY_PLOT).read_bytes().startswith(b"\x89PNG")


def test_the_readme_has_these_scores() -> None:
    readme = (ROOT / "python-research/README.md").read_text()
    for each in SCORES["categories"]:
        auc, precision = (
            "{value:.2f} ({low:.2f} to {high:.2f})".format(**each[key]) for key in ("auc", "average_precision")
        )
        unseen = "{precision:.2f} | {recall:.2f}".format(**each["at_unseen"])
        says, alarms = "advice" if each["advisory"] else "verdicts", f"{each['false_alarms']['value']:.2%}"
        assert f"| {each['name']} | {auc} | {precision} | {says} | {unseen} | {alarms} |" in readme
    assert (
        f"{SCORES['flagged']['value']:.2%} of {sum(each['texts'] for each in SCORES['ordinary']):,} ordinary" in readme
    )


def test_made_again_it_is_up_to_date(moderation_models: Store, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--models", str(moderation_models.root), "export", MODERATION.name, "--cache", str(CACHE)]
    assert cli.main(command) == 0
    assert "is up to date" in capsys.readouterr().out


def test_without_its_encoder_there_is_no_head(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--models", str(tmp_path), "export", MODERATION.name, "--cache", str(CACHE)]) == 1
    assert "all-minilm-l6-v2/current: no current revision" in capsys.readouterr().err
