"""A key that is restricted to some endpoints, models and a class, as the official SDK sees it."""

from collections.abc import Callable

import openai
import pytest

from e2e.limits import RESTRICTIONS
from e2e.vectors import MODEL
from stack.native import NativeStack
from stack.waiting import wait_until

ALIAS, OTHER, OTHER_ALIAS = "text-embedding-3-small", "moderation-minilm", "omni-moderation-latest"
STATE_LIMIT_S = 30


REFUSED: list[tuple[str, Callable[[openai.OpenAI], object]]] = [
    ("endpoint:/v1/moderations", lambda client: client.moderations.create(input="a")),
    (f"model:{OTHER}", lambda client: client.embeddings.create(model=OTHER, input="a")),
    (f"model:{OTHER}", lambda client: client.embeddings.create(model=OTHER_ALIAS, input="a")),
    (f"model:{OTHER}", lambda client: client.models.retrieve(OTHER)),
    ("model:nothing", lambda client: client.embeddings.create(model="nothing", input="a")),
]


@pytest.fixture
def native(start_native: Callable[..., NativeStack]) -> NativeStack:
    return start_native(gateway={"model-aliases": f"{ALIAS}={MODEL},{OTHER_ALIAS}={OTHER}"})


def client_of(native: NativeStack, key: str) -> openai.OpenAI:
    """The SDK with a key that the gateway has heard of."""
    client = openai.OpenAI(base_url=f"{native.describe().url}/v1", api_key=key, max_retries=0, timeout=60)

    def known() -> bool:
        try:
            client.get("/limits", cast_to=object)
        except openai.AuthenticationError:
            return False
        return True

    wait_until("the new key counting", known, STATE_LIMIT_S)
    return client


def test_a_key_is_good_for_its_scopes_alone(native: NativeStack) -> None:
    with client_of(native, native.create_key("acme", *RESTRICTIONS)) as client:
        assert client.embeddings.create(model=MODEL, input="a").model == MODEL
        assert client.embeddings.create(model=ALIAS, input="a").model == MODEL
        assert [model.id for model in client.models.list()] == [MODEL]
        assert client.models.retrieve(ALIAS).id == MODEL
        for lacks, ask in REFUSED:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                ask(client)
            assert refused.value.code == "insufficient_scope"
            assert f'lacks the scope "{lacks}"; it has ' in refused.value.message
            assert all(f'"{scope}"' in refused.value.message for scope in RESTRICTIONS)


def test_rotation_keeps_scopes_and_the_list_shows_them(native: NativeStack) -> None:
    key = native.create_key("acme", "endpoint:/v1/tokenize")
    rotated = native.gateway_keys("rotate", key.split("_")[1]).strip()
    listed = {line.split()[0]: line.split()[-1] for line in native.gateway_keys("list").splitlines()}
    assert listed[key.split("_")[1]] == listed[rotated.split("_")[1]] == "endpoint:/v1/tokenize"
    assert listed[native.keys["acme"].split("_")[1]] == "-"
    with client_of(native, rotated) as client, pytest.raises(openai.PermissionDeniedError):
        client.models.list()
