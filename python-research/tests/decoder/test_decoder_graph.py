"""The ONNX graph: what it computes is what the NumPy reference computes, and each row is computed by itself."""

import numpy as np
import onnx
import pytest
import tiny_decoder as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych_research import kernels
from triptych_research.blocks import Matrix
from triptych_research.decoder.float32 import Float32Decoder
from triptych_research.decoder.graph import build
from triptych_research.decoder.session import DecoderSession, Row, check_declared_shapes
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.reference.decoder import ReferenceDecoder

SLOTS = 4
VOCABULARY = tiny.CONFIG.vocabulary_size
LONG = [int(value) for value in np.random.default_rng(5).integers(0, VOCABULARY, 193)]
PROMPTS = [LONG[:1], LONG[3:20], LONG[:129], LONG[40:105]]


def session(weights: DecoderWeights[Matrix] | None = None, threads: int = 1) -> DecoderSession:
    model = build(weights or tiny.weights()).SerializeToString()
    return DecoderSession(model, SLOTS, tiny.CONFIG.context_tokens, threads)


def reference_logits(weights: DecoderWeights[Matrix]) -> np.ndarray:
    reference = ReferenceDecoder(weights)
    return reference.logits(LONG, reference.empty_cache())


@pytest.fixture(scope="module")
def graph() -> DecoderSession:
    return session()


@pytest.mark.parametrize("tied", [True, False])
def test_float32_logits_are_the_reference_s(tied: bool) -> None:
    weights = tiny.dense_weights(tied=tied)
    np.testing.assert_allclose(
        Float32Decoder(weights).score(LONG, range(len(LONG))), reference_logits(weights), atol=2e-4
    )


@pytest.mark.parametrize("weights", [tiny.weights(), tiny.dense_weights(), tiny.dense_weights(tied=False)])
def test_logits_are_near_the_reference_s(weights: DecoderWeights[Matrix]) -> None:
    expected, actual = reference_logits(weights), session(weights).score(LONG, range(len(LONG)))
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.998
    assert np.abs(actual - expected).max() < 1


def test_a_vocabulary_that_fills_no_tiles_has_as_many_logits() -> None:
    weights = tiny.odd_vocabulary()
    ids = [token % 90 for token in LONG[:40]]
    reference = ReferenceDecoder(weights)
    expected = reference.logits(ids, reference.empty_cache())
    actual = session(weights).score(ids, range(40))
    assert actual.shape == (40, 90)
    assert np.abs(actual - expected).max() < 0.5


def test_greedy_tokens_are_the_reference_s(graph: DecoderSession) -> None:
    reference = ReferenceDecoder(tiny.weights())
    for prompt, result in zip(PROMPTS, graph.greedy(PROMPTS, 12), strict=True):
        truth = reference.greedy(prompt, 12)
        differs = [a != b for a, b in zip(result.token_ids, truth.token_ids, strict=True)]
        if any(differs):  # only where the reference itself is in doubt
            assert truth.margins[differs.index(True)] < 0.5


@pytest.mark.bits
def test_a_text_is_bitwise_the_same_alone_in_company_and_by_several_threads(graph: DecoderSession) -> None:
    together = graph.greedy(PROMPTS, 12)
    for other in (graph, session(threads=2)):
        for prompt, result in zip(PROMPTS, together, strict=True):
            alone = other.greedy([prompt], 12)[0]
            assert (alone.token_ids, alone.margins) == (result.token_ids, result.margins)
            np.testing.assert_array_equal(alone.next_token_logits, result.next_token_logits)


@pytest.mark.bits
@settings(max_examples=min(30, settings().max_examples))
@given(length=st.integers(2, len(LONG)), rows=st.sampled_from([1, 7, 64, 128, 200]))
def test_a_prompt_is_bitwise_the_same_in_chunks_of_any_size_cache_included(
    graph: DecoderSession, length: int, rows: int
) -> None:
    prompt = LONG[:length]
    expected = graph.prefill([prompt])
    caches = {place: slab[0, :, :length].copy() for place, slab in graph.slabs.items()}
    np.testing.assert_array_equal(graph.prefill([prompt], rows), expected)
    for place, slab in graph.slabs.items():
        np.testing.assert_array_equal(slab[0, :, :length], caches[place])


@pytest.mark.bits
def test_what_was_decoded_is_bitwise_what_a_prompt_of_it_gives(graph: DecoderSession) -> None:
    prompt, said = LONG[:20], graph.greedy([LONG[:20]], 12)[0].token_ids
    decoded = {place: slab[0, :, :31].copy() for place, slab in graph.slabs.items()}
    graph.prefill([[*prompt, *said[:-1]]])
    for place, slab in graph.slabs.items():
        np.testing.assert_array_equal(slab[0, :, :31], decoded[place])


def test_logits_are_those_of_the_rows_asked_for(graph: DecoderSession) -> None:
    rows = [Row(token, 2, position) for position, token in enumerate(LONG[:30])]
    every = graph.run(rows, range(30))
    np.testing.assert_array_equal(graph.run(rows, [29, 3, 29]), every[[29, 3, 29]])
    assert graph.run(rows, []).shape == (0, VOCABULARY)


def test_what_lies_beyond_a_row_s_position_is_never_read(graph: DecoderSession) -> None:
    expected = graph.greedy([PROMPTS[1]], 6)[0].token_ids
    for slab in graph.slabs.values():
        slab.fill(np.nan)
    assert graph.greedy([PROMPTS[1]], 6)[0].token_ids == expected


def test_a_run_writes_nothing_but_its_own_rows(graph: DecoderSession) -> None:
    for slab in graph.slabs.values():
        slab.fill(7)
    graph.run([Row(3, 1, 5), Row(4, 3, 0)], [0])
    for slab in graph.slabs.values():
        written = np.argwhere((slab != 7).any(axis=(1, 3)))
        np.testing.assert_array_equal(written, [[1, 5], [3, 0]])


def test_a_graph_is_of_our_own_operators_and_moves_numbers_otherwise() -> None:
    for weights in (tiny.weights(), tiny.odd_vocabulary()):
        nodes = build(weights).graph.node
        assert {node.op_type for node in nodes if node.domain != kernels.DOMAIN} <= {"Gather", "Slice"}
        assert sum(node.domain == kernels.DOMAIN for node in nodes) == 5 * tiny.CONFIG.layers + 2
    assert [opset.domain for opset in build(tiny.weights()).opset_import] == ["", kernels.DOMAIN]


def test_the_tied_table_is_in_the_file_once() -> None:
    sizes = {tensor.name: tensor.dims[0] for tensor in build(tiny.weights()).graph.initializer}
    assert sizes["embedding"] == VOCABULARY * tiny.CONFIG.hidden_size * 17 // 16
    assert not any(name.startswith("lm_head") for name in sizes)


def test_shapes_are_as_declared() -> None:
    for weights in (tiny.weights(), tiny.odd_vocabulary()):
        check_declared_shapes(build(weights))


@pytest.mark.parametrize("output", ["logits", "present_key.1"])
def test_a_wrong_declaration_is_found(output: str) -> None:
    model = build(tiny.weights())
    declared = next(value for value in model.graph.output if value.name == output)
    declared.CopyFrom(onnx.helper.make_tensor_value_info(output, declared.type.tensor_type.elem_type, ["rows", 7]))
    with pytest.raises(ValueError, match=rf"{output} is \[.*\]; it is declared as \['rows', 7\]"):
        check_declared_shapes(model)


@pytest.mark.parametrize("token", [90, 95, -1])
def test_no_token_beyond_the_vocabulary_is_looked_up(token: int) -> None:
    """Also where rows are there that only fill the table up."""
    with pytest.raises(Exception, match=f"id {token} is not among 90 rows"):
        session(tiny.odd_vocabulary()).run([Row(token, 0, 0)], [0])
