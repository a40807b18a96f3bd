"""The reference is what everything else is judged by, so it is judged by others."""

import importlib.util

import numpy as np
import pytest
from conftest import CACHE

from triptych_research.bundle import Bundle
from triptych_research.embedding.checkpoint import load
from triptych_research.recipes import ENCODER
from triptych_research.reference import ReferenceMismatchError, compare
from triptych_research.reference.bert import SentenceEncoder

HAS_TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None


@pytest.fixture(scope="module")
def reference() -> SentenceEncoder:
    return SentenceEncoder(load(ENCODER.origin.fetch(CACHE)))


def test_it_gives_the_published_vector(reference: SentenceEncoder, minilm: Bundle) -> None:
    # The first numbers that the model's authors show for this sentence.
    published = [6.76569194e-02, 6.34959638e-02, 4.87131178e-02]
    vector = reference.embed(minilm.tokenizer().encode("This is an example sentence").ids)
    np.testing.assert_allclose(vector[:3], published, rtol=0, atol=1e-6)


@pytest.mark.skipif(
    not HAS_TORCH, reason="LOUD: the extra `torch` is not installed: NumPy is NOT compared with PyTorch"
)
def test_it_agrees_with_pytorch() -> None:
    assert compare.with_torch(ENCODER.origin.fetch(CACHE)) <= compare.TOLERANCE


@pytest.mark.skipif(HAS_TORCH, reason="the extra `torch` is installed")
def test_without_pytorch_the_comparison_says_what_is_missing() -> None:
    with pytest.raises(
        ReferenceMismatchError, match=r"torch is not installed: pip install -e 'python-research\[torch\]'"
    ):
        compare.with_torch(ENCODER.origin.fetch(CACHE))
