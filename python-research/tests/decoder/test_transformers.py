"""The NumPy reference against transformers on PyTorch, the extra `torch` (gigabytes, so most machines skip this)."""

from pathlib import Path

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych_research.decoder import llama_folder
from triptych_research.reference.decoder import ReferenceDecoder

torch = pytest.importorskip("torch", reason="pip install -e 'python-research[torch]'")
transformers = pytest.importorskip("transformers", reason="pip install -e 'python-research[torch]'")


@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_greedy_tokens_are_those_of_transformers(tmp_path: Path, tied: bool) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights(tied=tied))
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = ReferenceDecoder(llama_folder.read_weights(source))
    ids = [5, 17, 80, 3, 17, 42, 9, 9, 1]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()  # [tokens, vocabulary]
        text = theirs.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=None)[0].tolist()
    np.testing.assert_allclose(ours.logits(ids, ours.empty_cache()), expected, atol=2e-4)
    assert ours.greedy(ids, 16).token_ids == text[len(ids) :]
