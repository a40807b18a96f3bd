"""8-bit integers are multiplied exactly, also on processors whose fast instructions saturate."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import tiny_decoder
from conftest import ROOT

from triptych_research import cpu
from triptych_research.decoder.graph import WeightForm, build
from triptych_research.decoder.session import DecoderSession
from triptych_research.embedding import graph as embedding
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.inference import Encoder
from triptych_research.embedding.quantize import Int8Weights

pytestmark = pytest.mark.bits

Open = Callable[[], onnxruntime.InferenceSession]


@pytest.fixture(params=["encoder", "decoder"])
def open_session(request: pytest.FixtureRequest, checkpoint: Checkpoint, int8_weights: Int8Weights) -> Open:
    """Open a session of each kind that runs integers, in turn."""
    if request.param == "encoder":
        graph = embedding.build(checkpoint, int8_weights).SerializeToString()
        return lambda: Encoder(graph, normalize=True)._session
    graph = build(tiny_decoder.weights(), WeightForm.INT8).SerializeToString()
    return lambda: DecoderSession(graph, slots=1, capacity=8).session


@pytest.mark.parametrize(("has_int8_dot_product", "exact"), [(False, "1"), (True, "0")])
def test_integers_are_multiplied_exactly_where_the_processor_would_saturate(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, has_int8_dot_product: bool, exact: str
) -> None:
    monkeypatch.setattr(cpu, "has_int8_dot_product", lambda: has_int8_dot_product)
    options = open_session().get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == exact


def test_exact_kernels_load_the_same_graph_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(tiny_decoder.weights(), WeightForm.INT8).SerializeToString()
    expected = DecoderSession(graph, slots=1, capacity=8).score([3, 1, 4, 1, 5])
    monkeypatch.setattr(cpu, "has_int8_dot_product", lambda: False)
    np.testing.assert_array_equal(DecoderSession(graph, slots=1, capacity=8).score([3, 1, 4, 1, 5]), expected)


def test_no_session_is_opened_in_another_way() -> None:
    sources = [path for part in ("python-research/src", "tests") for path in (ROOT / part).rglob("*.py")]
    opening = sorted(path.name for path in sources if "InferenceSession(" in path.read_text())
    assert opening == ["cpu.py", "sessions.py"]  # cpu.py asks what the processor is, and sessions.py has the answer
