"""Readers and references say what PyTorch has said (record_torch.py): tokenizers, layouts, GGUF, vectors and logits."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import record_torch
import tiny_decoder
from record_torch import CACHE, LAYOUTS, PROMPTS, TINY_IDS, TINY_TEXTS, write_tiny

from triptych_research.decoder import llama_folder
from triptych_research.decoder.chat import Message
from triptych_research.decoder.checkpoint import DecoderCheckpoint
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.embedding.golden import TEXTS
from triptych_research.recipes import CHAT, ENCODER
from triptych_research.reference.bert import SentenceEncoder
from triptych_research.reference.decoder import ReferenceDecoder
from triptych_research.sources import Folder

OUTPUTS = json.loads(record_torch.FILE.read_text())


def check_vectors(checkpoint: Checkpoint, recorded: dict[str, list[float]], tolerance: float) -> None:
    reference, tokenizer = SentenceEncoder(checkpoint), checkpoint.tokenizer()
    for text, expected in recorded.items():
        vector = reference.embed(tokenizer.encode(text).ids)[: len(expected)]
        np.testing.assert_allclose(vector, expected, rtol=0, atol=tolerance, err_msg=text)


def check_answer(decoder: ReferenceDecoder, ids: list[int], recorded: dict[str, Any], tolerance: float) -> None:
    answer = decoder.greedy(ids, len(recorded["token_ids"]))
    logits = {int(index): value for index, value in recorded["logits"].items()}
    np.testing.assert_allclose(answer.next_token_logits[list(logits)], list(logits.values()), rtol=0, atol=tolerance)
    assert answer.token_ids == recorded["token_ids"]


def test_the_default_encoder_gives_sentence_transformers_vectors() -> None:
    assert list(OUTPUTS["encoder"]) == list(TEXTS)
    check_vectors(load(ENCODER.origin.fetch(CACHE)), OUTPUTS["encoder"], 1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_sentence_transformers_vectors(tmp_path: pathlib.Path, layout: str) -> None:
    recorded = OUTPUTS["tiny_encoder"][layout]
    assert list(recorded) == list(TINY_TEXTS)
    source = Folder(write_tiny(tmp_path / "tiny", layout), "MIT", "somebody").fetch(tmp_path)
    check_vectors(load(source), recorded, 1e-5)


@pytest.mark.parametrize("recorded", OUTPUTS["tiny_decoder"], ids=lambda recorded: f"tied-{recorded['tied']}")
def test_a_decoder_s_folder_gives_transformers_logits(tmp_path: pathlib.Path, recorded: dict[str, Any]) -> None:
    source = tiny_decoder.write_folder(tmp_path, tiny_decoder.dense_weights(tied=recorded["tied"]))
    check_answer(ReferenceDecoder(llama_folder.read_weights(source)), TINY_IDS, recorded, 2e-4)


@pytest.fixture(scope="module")
def smollm2() -> DecoderCheckpoint:
    checkpoint = CHAT.family.load(CHAT.origin.fetch(CACHE), CACHE)
    assert isinstance(checkpoint, DecoderCheckpoint)
    return checkpoint


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_the_default_decoder_gives_transformers_ids_and_logits(smollm2: DecoderCheckpoint, number: int) -> None:
    recorded, prompt = OUTPUTS["decoder"][number], PROMPTS[number]
    template = smollm2.chat_template()
    assert template is not None
    assert recorded["prompt"] == prompt
    if isinstance(prompt, str):
        ids = smollm2.tokenizer().encode(prompt).ids
    else:
        ids = template.encode([Message(**message) for message in prompt])
    assert ids == recorded["prompt_ids"]
    check_answer(ReferenceDecoder(smollm2.weights), ids, recorded, 1e-3)
