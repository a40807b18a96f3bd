"""The NumPy decoder: what must hold of any decoder, whatever its weights."""

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych_research.blocks import Floats
from triptych_research.reference.decoder import ReferenceDecoder, angles, rms_norm, rotate, softmax

IDS = [5, 17, 80, 3, 17, 42, 9, 9, 1]


@pytest.fixture(scope="module")
def decoder() -> ReferenceDecoder:
    return ReferenceDecoder(tiny.dense_weights())


def logits(decoder: ReferenceDecoder, ids: list[int]) -> Floats:
    return decoder.logits(ids, decoder.empty_cache())


def test_a_token_s_logits_do_not_depend_on_later_tokens(decoder: ReferenceDecoder) -> None:
    changed = [*IDS[:5], 33, 34, 35, 36]
    np.testing.assert_allclose(logits(decoder, changed)[:5], logits(decoder, IDS)[:5], atol=1e-5)
    assert np.abs(logits(decoder, changed)[5] - logits(decoder, IDS)[5]).max() > 0.1


def test_a_token_s_logits_depend_on_what_was_before_and_where(decoder: ReferenceDecoder) -> None:
    expected = logits(decoder, IDS)[-1]
    for other in ([7, *IDS[1:]], IDS[1:], [IDS[1], IDS[0], *IDS[2:]]):
        assert np.abs(logits(decoder, other)[-1] - expected).max() > 0.01


def test_the_cache_stands_for_the_text_so_far(decoder: ReferenceDecoder) -> None:
    cache = decoder.empty_cache()
    pieces = [decoder.logits(IDS[:4], cache), decoder.logits(IDS[4:5], cache), decoder.logits(IDS[5:], cache)]
    np.testing.assert_allclose(np.concatenate(pieces), logits(decoder, IDS), atol=1e-5)
    assert cache.tokens == len(IDS)


def test_greedy_takes_the_likeliest_token_again_and_again(decoder: ReferenceDecoder) -> None:
    result, text = decoder.greedy(IDS, 5), list(IDS)
    for token, margin in zip(result.token_ids, result.margins, strict=True):
        row = np.sort(logits(decoder, text)[-1])
        assert token == int(np.argmax(logits(decoder, text)[-1]))
        assert margin == pytest.approx(row[-1] - row[-2], abs=1e-4)
        text.append(token)
    np.testing.assert_allclose(result.next_token_logits, logits(decoder, IDS)[-1], atol=1e-6)


def test_products_of_rotated_vectors_depend_on_their_distance_only() -> None:
    query, key = np.random.default_rng(1).standard_normal((2, 1, 1, tiny.CONFIG.head_dim)).astype(np.float32)

    def product(query_at: int, key_at: int) -> float:
        query_turn, key_turn = (angles(np.array([position]), tiny.CONFIG) for position in (query_at, key_at))
        return float((rotate(query, query_turn) * rotate(key, key_turn)).sum())

    assert product(7, 3) == pytest.approx(product(204, 200), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-3)


def test_rms_norm_and_softmax_do_what_their_names_say() -> None:
    rows = np.random.default_rng(2).standard_normal((3, 64)).astype(np.float32) * 50
    scaled = rms_norm(rows, np.full(64, 2, np.float32), 1e-9)
    np.testing.assert_allclose(np.sqrt((scaled**2).mean(axis=-1)), 2, rtol=1e-5)
    np.testing.assert_allclose(softmax(rows).sum(axis=-1), 1, rtol=1e-5)
