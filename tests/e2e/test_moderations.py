"""Moderation: OpenAI's shape, a verdict from a real model, and honesty about what it does not judge, or not well."""

import httpx
import openai

import cases

MODEL = "moderation-minilm"
CATEGORIES = 13
HARMLESS = "The cat sleeps on the warm keyboard."
INSULT = "You are a worthless idiot and everybody hates you."
EXPLICIT = "They undressed each other and had passionate sex all night."
NOT_ASSESSED = {"harassment/threatening", "self-harm/intent", "self-harm/instructions", "illicit", "illicit/violent"}


def test_sdk_gets_a_verdict(client: openai.OpenAI) -> None:
    answer = client.moderations.create(input=[HARMLESS, EXPLICIT])
    assert answer.model == MODEL
    harmless, explicit = answer.results
    assert not harmless.flagged
    assert explicit.flagged
    assert explicit.categories.sexual
    assert explicit.category_scores.sexual > harmless.category_scores.sexual


def test_a_hint_is_listed_and_flags_nothing(client: openai.OpenAI) -> None:
    """Verdicts on insults are too often wrong to refuse a text because of them."""
    harmless, insult = client.moderations.create(input=[HARMLESS, INSULT]).results
    assert not insult.flagged
    assert not insult.categories.harassment
    assert insult.category_scores.harassment > harmless.category_scores.harassment
    extra = [result.model_extra or {} for result in (harmless, insult)]
    assert [advice["advisory_categories"]["harassment"] for advice in extra] == [False, True]


def test_no_harmless_text_is_flagged(http: httpx.Client) -> None:
    texts = cases.harmless()
    answer = http.post("/v1/moderations", json={"input": texts}).raise_for_status().json()
    results = zip(texts, answer["results"], strict=True)
    assert [(text, result["category_scores"]) for text, result in results if result["flagged"]] == []


def test_every_category_is_there_and_the_unjudged_are_listed(http: httpx.Client) -> None:
    answer = http.post("/v1/moderations", json={"input": INSULT}).raise_for_status().json()
    (result,) = answer["results"]
    assert len(result["categories"]) == len(result["category_scores"]) == CATEGORIES
    assert set(result["not_assessed"]) == NOT_ASSESSED
    for category in NOT_ASSESSED:
        assert result["categories"][category] is False
        assert result["category_scores"][category] == 0
    assert result["flagged"] == any(result["categories"].values())
    assert not [name for name in result["advisory_categories"] if result["categories"][name]]
    assert not NOT_ASSESSED & result["advisory_categories"].keys()


def test_long_texts_are_judged_whole(http: httpx.Client) -> None:
    """The end of a text that is longer than the encoder takes counts as its beginning does."""
    harmless = "The weather was fine and nothing happened. " * 60
    both = [harmless * 2, harmless + f"{EXPLICIT} " * 60]
    answer = http.post("/v1/moderations", json={"input": both}).raise_for_status().json()
    assert [result["categories"]["sexual"] for result in answer["results"]] == [False, True]


def test_forms_of_input(http: httpx.Client) -> None:
    def scores(inputs: object) -> list[dict[str, float]]:
        answer = http.post("/v1/moderations", json={"input": inputs, "model": MODEL}).raise_for_status().json()
        return [result["category_scores"] for result in answer["results"]]

    assert scores(INSULT) == scores([INSULT]) == scores([{"type": "text", "text": INSULT}])
    assert scores([HARMLESS, INSULT]) == scores(HARMLESS) + scores(INSULT)


def test_images_and_other_models_are_refused(http: httpx.Client) -> None:
    image = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    response = http.post("/v1/moderations", json={"input": image})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input[0]")
    response = http.post("/v1/moderations", json={"input": "a", "model": "all-minilm-l6-v2"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "model_task_mismatch")
