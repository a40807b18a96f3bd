"""The ONNX graph: what it computes is what the NumPy reference computes, and it is batch-invariant."""

import numpy as np
import onnx
import pytest
import tiny_decoder as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych_research.decoder.blocks import Matrix, to_int8
from triptych_research.decoder.chunks import CHUNK_STEP, MIN_CHUNK_TOKENS, largest_chunk
from triptych_research.decoder.graph import FLOAT32_ACTIVATIONS, WeightForm, build
from triptych_research.decoder.session import DecoderSession, check_declared_shapes
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.reference.decoder import ReferenceDecoder

SLOTS = 4
LONG = [int(value) for value in np.random.default_rng(5).integers(0, tiny.CONFIG.vocabulary_size, 193)]
PROMPTS = [LONG[:1], LONG[3:20], LONG[:129], LONG[40:105]]


def session(form: WeightForm, weights: DecoderWeights[Matrix] | None = None, **settings: int) -> DecoderSession:
    model = build(weights or tiny.weights(), form, **settings)
    return DecoderSession(model.SerializeToString(), SLOTS, tiny.CONFIG.context_tokens)


@pytest.fixture(scope="module", params=list(WeightForm))
def graph(request: pytest.FixtureRequest) -> DecoderSession:
    return session(request.param)


def test_logits_are_the_reference_s() -> None:
    reference = ReferenceDecoder(tiny.weights())
    expected = reference.logits(LONG, reference.empty_cache())
    np.testing.assert_allclose(session(WeightForm.FP32).score(LONG), expected, atol=2e-4)


def test_8_bit_weights_are_their_own_rounding_and_no_more() -> None:
    reference = ReferenceDecoder(tiny.weights().map_matrices(to_int8))
    expected = reference.logits(LONG, reference.empty_cache())
    actual = session(WeightForm.INT8_BLOCK, activations=FLOAT32_ACTIVATIONS).score(LONG)
    np.testing.assert_allclose(actual, expected, atol=2e-4)


def test_an_output_table_of_its_own_is_used() -> None:
    weights = tiny.dense_weights(tied=False)
    reference = ReferenceDecoder(weights)
    expected = reference.logits(LONG[:40], reference.empty_cache())
    np.testing.assert_allclose(session(WeightForm.FP32, weights).score(LONG[:40]), expected, atol=2e-4)
    correlation = np.corrcoef(session(WeightForm.INT8_BLOCK, weights).score(LONG[:40]).ravel(), expected.ravel())[0, 1]
    assert correlation > 0.99


def test_greedy_tokens_are_the_reference_s(graph: DecoderSession) -> None:
    reference = ReferenceDecoder(tiny.weights())
    for prompt, result in zip(PROMPTS, graph.greedy(PROMPTS, 12), strict=True):
        truth = reference.greedy(prompt, 12)
        differs = [a != b for a, b in zip(result.token_ids, truth.token_ids, strict=True)]
        if any(differs):  # only where the reference itself is in doubt
            assert truth.margins[differs.index(True)] < 0.5


@pytest.mark.bits
def test_a_row_decodes_bitwise_the_same_alone_and_beside_rows_of_other_lengths(graph: DecoderSession) -> None:
    together = graph.greedy(PROMPTS, 12)
    for prompt, result in zip(PROMPTS, together, strict=True):
        alone = graph.greedy([prompt], 12)[0]
        assert (alone.token_ids, alone.margins) == (result.token_ids, result.margins)
        np.testing.assert_array_equal(alone.next_token_logits, result.next_token_logits)


@pytest.mark.bits
@settings(max_examples=min(30, settings().max_examples))
@given(
    length=st.integers(2, len(LONG)),
    chunk_tokens=st.sampled_from(range(MIN_CHUNK_TOKENS, largest_chunk(tiny.CONFIG.head_dim) + 1, CHUNK_STEP)),
)
def test_a_prompt_is_bitwise_the_same_in_chunks_of_any_size(
    graph: DecoderSession, length: int, chunk_tokens: int
) -> None:
    prompt = LONG[:length]
    np.testing.assert_array_equal(graph.prefill(0, prompt, chunk_tokens), graph.prefill(1, prompt))


def test_logits_are_those_of_the_rows_asked_for(graph: DecoderSession) -> None:
    ids = LONG[:30]
    every = graph.run(0, [ids], [30], range(30))
    np.testing.assert_array_equal(graph.run(0, [ids], [30], [29, 3]), every[[29, 3]])
    assert graph.run(0, [ids], [30], []).shape == (0, tiny.CONFIG.vocabulary_size)


def test_what_lies_beyond_a_row_s_length_is_never_read(graph: DecoderSession) -> None:
    expected = graph.greedy([PROMPTS[1]], 6)[0].token_ids
    for slab in graph.slabs.values():
        slab.fill(np.nan)
    assert graph.greedy([PROMPTS[1]], 6)[0].token_ids == expected


def test_the_tied_table_is_in_the_file_once() -> None:
    model = build(tiny.weights(), WeightForm.INT8_BLOCK)
    tables = [tensor.name for tensor in model.graph.initializer if tensor.dims[:1] == [tiny.CONFIG.vocabulary_size]]
    assert tables == ["embedding.codes", "embedding.scales"]


@pytest.mark.parametrize("form", list(WeightForm))
def test_shapes_are_as_declared(form: WeightForm) -> None:
    check_declared_shapes(build(tiny.weights(), form))


@pytest.mark.parametrize("output", ["logits", "present_key.1"])
def test_a_wrong_declaration_is_found(output: str) -> None:
    model = build(tiny.weights(), WeightForm.FP32)
    declared = next(value for value in model.graph.output if value.name == output)
    declared.CopyFrom(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["batch", 7]))
    with pytest.raises(ValueError, match=rf"{output} is \[.*\]; it is declared as \['batch', 7\]"):
        check_declared_shapes(model)
