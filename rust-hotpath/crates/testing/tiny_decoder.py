"""Writes a bundle of a Llama-architecture decoder with random weights, small enough that a step takes a millisecond.

    python tiny_decoder.py MODEL_FOLDER

The research side's own exporter makes it, so the hot path is tested with what it will be given. The vocabulary has
every byte, some merges that cut UTF-8 sequences, and two control tokens.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel
from triptych_research import bundle
from triptych_research.decoder.chat import compile_template
from triptych_research.decoder.checkpoint import DecoderCheckpoint
from triptych_research.decoder.export import Generation, build_graphs
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.export import bundle_files
from triptych_research.sources import Source

CONTROLS = ("<end>", "<start>")
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "Ã ¤", "ð Ł", "ðŁ ĺ", "â Ĥ", "Ġ a", "o n", "} Ċ", '" :')
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<start>system\nBe kind.<end>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% set content = message['content'] | trim if message['role'] == 'system' else message['content'] %}"
    "{{ '<start>' + message['role'] + '\n' + content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)


def main(model_folder: Path) -> None:
    tokenizer = byte_tokenizer()
    checkpoint = DecoderCheckpoint(
        weights=random_weights(tokenizer.get_vocab_size()),
        tokenizer_json=tokenizer.to_str().encode(),
        chat_markup=compile_template(TEMPLATE, tokenizer),
        stop_token_ids=[CONTROLS.index("<end>")],
    )
    source = Source(uri="file:random", sha256="0" * 64, license="Apache-2.0", owner="tests", files=Path())
    files = bundle_files(model_folder.name, source, Generation(), checkpoint, build_graphs(checkpoint))
    revision = bundle.revision_of(files[bundle.MANIFEST])
    (model_folder / revision).mkdir(parents=True)
    for name, content in files.items():
        (model_folder / revision / name).write_bytes(content)
    (model_folder / "current").write_text(json.dumps({"revision": revision, "history": []}))


def byte_tokenizer() -> Tokenizer:
    tokens = [*CONTROLS, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge.split()) for merge in MERGES]))
    tokenizer.add_special_tokens(list(CONTROLS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def random_weights(vocabulary_size: int) -> DecoderWeights:
    random = np.random.default_rng(7)
    config = DecoderConfig(
        vocabulary_size=vocabulary_size,
        hidden_size=64,
        intermediate_size=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        context_tokens=512,
        rope_base=10000.0,
        rms_epsilon=1e-5,
    )

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        # Large enough for logits to differ clearly.
        return (random.standard_normal((outputs, inputs)) * 1.5 / np.sqrt(inputs)).astype(np.float32)

    def norm() -> np.ndarray:
        return (1 + 0.1 * random.standard_normal(config.hidden_size)).astype(np.float32)

    def layer() -> DecoderLayer:
        query_rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
        return DecoderLayer(
            attention_norm=norm(),
            query=matrix(query_rows, config.hidden_size),
            key=matrix(kv_rows, config.hidden_size),
            value=matrix(kv_rows, config.hidden_size),
            output=matrix(config.hidden_size, query_rows),
            ffn_norm=norm(),
            gate=matrix(config.intermediate_size, config.hidden_size),
            up=matrix(config.intermediate_size, config.hidden_size),
            down=matrix(config.hidden_size, config.intermediate_size),
        )

    embedding = matrix(vocabulary_size, config.hidden_size)
    return DecoderWeights(config, embedding, tuple(layer() for _ in range(config.layers)), norm(), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
