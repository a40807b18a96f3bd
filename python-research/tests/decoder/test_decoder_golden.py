"""The gate: a graph that is what it should be passes, and each way of being wrong is found and named."""

import dataclasses

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych.bundle.v1 import bundle_pb2
from triptych_research.blocks import Floats, Matrix, dense
from triptych_research.decoder import golden
from triptych_research.decoder.graph import build
from triptych_research.decoder.session import ROWS, DecoderSession, Row
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.golden import GoldenError
from triptych_research.reference.decoder import ReferenceDecoder

TOLERANCE = bundle_pb2.Tolerance(max_abs_error=2.0, min_cosine=0.98)
CASES = [golden.Case(name, ids) for name, ids in (("one", [5]), ("few", [9, 8, 7]), ("many", list(range(10, 75))))]


def graph(weights: DecoderWeights[Matrix]) -> DecoderSession:
    return DecoderSession(build(weights).SerializeToString(), slots=len(CASES), capacity=tiny.CONFIG.context_tokens)


@pytest.fixture(scope="module")
def session() -> DecoderSession:
    return graph(tiny.weights())


@pytest.fixture(scope="module")
def file(session: DecoderSession) -> bundle_pb2.GenerationGoldenFile:
    return golden.make(CASES, ReferenceDecoder(tiny.weights()), session)


def copy(file: bundle_pb2.GenerationGoldenFile) -> bundle_pb2.GenerationGoldenFile:
    changed = bundle_pb2.GenerationGoldenFile()
    changed.CopyFrom(file)
    return changed


@pytest.mark.bits
def test_a_graph_passes_its_own_cases(file: bundle_pb2.GenerationGoldenFile, session: DecoderSession) -> None:
    golden.check_graph(file, 0, session, TOLERANCE)
    for case in file.generations:
        assert len(case.reference.token_ids) == len(case.graphs[0].margins) == golden.NEW_TOKENS
        assert len(case.logit_ids) == len(case.reference.next_token_logits) == len(case.graphs[0].next_token_logits)


def test_other_weights_are_found(file: bundle_pb2.GenerationGoldenFile) -> None:
    random = np.random.default_rng(9)

    def disturb(matrix: Matrix) -> Matrix:
        values = dense(matrix)
        noise: Floats = (0.3 * values.std() * random.standard_normal(values.shape)).astype(np.float32)
        return values + noise

    with pytest.raises(GoldenError, match=r"generations\[\d\]"):
        golden.check_graph(file, 0, graph(tiny.weights().map_matrices(disturb)), TOLERANCE)


def test_another_rotation_is_found(file: bundle_pb2.GenerationGoldenFile) -> None:
    config = dataclasses.replace(tiny.CONFIG, rope_base=100.0)
    with pytest.raises(GoldenError, match=r"generations\[\d\]"):
        golden.check_graph(file, 0, graph(dataclasses.replace(tiny.weights(), config=config)), TOLERANCE)


def test_a_token_of_the_reference_may_differ_at_a_near_tie_only(
    file: bundle_pb2.GenerationGoldenFile, session: DecoderSession
) -> None:
    changed = copy(file)
    reference = changed.generations[1].reference
    reference.token_ids[0] ^= 1
    reference.margins[0] = golden.CLEAR_MARGIN / 2
    golden.check_graph(changed, 0, session, TOLERANCE)
    reference.margins[0] = golden.CLEAR_MARGIN
    with pytest.raises(GoldenError, match=r"generations\[1\]\.reference.token_ids\[0\]"):
        golden.check_graph(changed, 0, session, TOLERANCE)


@pytest.mark.parametrize("field", ["next_token_logits", "margins", "token_ids"])
def test_the_graph_s_own_answers_are_equal_to_the_last_bit(
    file: bundle_pb2.GenerationGoldenFile, session: DecoderSession, field: str
) -> None:
    changed = copy(file)
    values = getattr(changed.generations[1].graphs[0], field)
    place = len(values) - 1
    if field == "token_ids":
        values[place] ^= 1
        changed.generations[1].reference.margins[place] = golden.CLEAR_MARGIN / 2  # else that would be complained of
    else:
        values[place] = float(np.nextafter(np.float32(values[place]), np.float32(np.inf)))
    with pytest.raises(GoldenError, match=rf"generations\[1\]\.graphs\[0\]\.{field}\[{place}\]: .*, not "):
        golden.check_graph(changed, 0, session, TOLERANCE)


@pytest.mark.parametrize(("wrong", "measure"), [(50.0, "max_abs_error"), (float("nan"), "max_abs_error")])
def test_logits_out_of_tolerance_are_found(
    file: bundle_pb2.GenerationGoldenFile, session: DecoderSession, wrong: float, measure: str
) -> None:
    changed = copy(file)
    changed.generations[2].graphs[0].next_token_logits[0] = wrong
    with pytest.raises(GoldenError, match=rf"generations\[2\]: {measure}"):
        golden.check_graph(changed, 0, session, TOLERANCE)
    strict = bundle_pb2.Tolerance(max_abs_error=100, min_cosine=0.999999)
    with pytest.raises(GoldenError, match="min_cosine"):
        golden.check_graph(file, 0, session, strict)


def test_a_row_that_depends_on_its_company_is_found(session: DecoderSession, monkeypatch: pytest.MonkeyPatch) -> None:
    run = session.run

    def leak(rows: list[Row], logit_rows: list[int]) -> np.ndarray:
        logits = run(rows, logit_rows)
        return np.nextafter(logits, np.float32(np.inf)) if len({row.slot for row in rows}) > 1 else logits

    monkeypatch.setattr(session, "run", leak)
    with pytest.raises(GoldenError, match="not the same alone and in a batch of 3"):
        golden.replay([case.ids for case in CASES], session)


def test_a_prompt_whose_last_bits_depend_on_its_chunks_is_found(
    session: DecoderSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = session.prefill

    def round_otherwise(prompts: list[list[int]], rows: int = ROWS) -> np.ndarray:
        logits = prefill(prompts, rows)
        return np.nextafter(logits, np.float32(np.inf)) if rows == 7 else logits

    monkeypatch.setattr(session, "prefill", round_otherwise)
    with pytest.raises(GoldenError, match=r"generations\[0\]: other logits in chunks of 7 than of 128"):
        golden.replay([case.ids for case in CASES], session)
