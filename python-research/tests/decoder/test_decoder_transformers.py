"""The NumPy decoder agrees with transformers on PyTorch, where the extra `torch` (gigabytes) is installed."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych_research.decoder import llama_folder
from triptych_research.decoder.checkpoint import load
from triptych_research.reference import ReferenceMismatchError, compare_decoder
from triptych_research.reference.decoder import ReferenceDecoder

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(
    not HAS_TORCH, reason="LOUD: the extra `torch` is not installed: the NumPy decoder is NOT compared with PyTorch"
)


@needs_torch
@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_greedy_tokens_are_those_of_a_published_folder(tmp_path: pathlib.Path, tied: bool) -> None:
    """Read by transformers itself: this also holds our names of tensors and settings to theirs."""
    import torch
    import transformers

    source = tiny.write_folder(tmp_path, tiny.dense_weights(tied=tied))
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = ReferenceDecoder(llama_folder.read_weights(source))
    ids = [5, 17, 80, 3, 17, 42, 9, 9, 1]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()  # [tokens, vocabulary]
        text = theirs.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=None)[0].tolist()
    np.testing.assert_allclose(ours.logits(ids, ours.empty_cache()), expected, atol=2e-4)
    assert ours.greedy(ids, 16).token_ids == text[len(ids) :]


@needs_torch
def test_the_comparison_of_golden_prompts_passes(tmp_path: pathlib.Path) -> None:
    checkpoint = load(tiny.write_folder(tmp_path, tiny.dense_weights()))
    assert 0 < compare_decoder.with_torch(checkpoint) <= compare_decoder.TOLERANCE


@pytest.mark.skipif(HAS_TORCH, reason="the extra `torch` is installed")
def test_without_pytorch_the_comparison_says_what_is_missing(tmp_path: pathlib.Path) -> None:
    checkpoint = load(tiny.write_folder(tmp_path, tiny.dense_weights()))
    with pytest.raises(ReferenceMismatchError, match=r"torch is not installed: pip install -e "):
        compare_decoder.with_torch(checkpoint)
