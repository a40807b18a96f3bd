"""Writes a bundle of a Llama-architecture decoder with random weights, small enough that a step takes a millisecond.

    python tiny_decoder.py MODEL_FOLDER

It is made by the research side's own code, so what the hot path is tested with is what the exporter writes. Its
vocabulary has every byte, some merges that cut UTF-8 sequences, and two control tokens.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf import json_format
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel
from triptych.bundle.v1 import bundle_pb2
from triptych_research.decoder import chat, golden
from triptych_research.decoder.chunks import largest_chunk
from triptych_research.decoder.graph import OPSET, WeightForm, build_decoder
from triptych_research.decoder.session import DecoderSession
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.reference.decoder import ReferenceDecoder

CONTROLS = ("<end>", "<start>")
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "e r", "Ã ¤", "ð Ł", "ðŁ ĺ", "â Ĥ", "Ġ a", "o n", "} Ċ", '" :']
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<start>system\nBe kind.<end>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<start>' + message['role'] + '\n' + message['content'] + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
SLOTS = 4


def main(model_folder: Path) -> None:
    tokenizer = byte_tokenizer()
    weights = random_weights(tokenizer.get_vocab_size())
    graph = build_decoder(weights, WeightForm.INT8)
    template = chat.compile_template(TEMPLATE, tokenizer)
    context = weights.config.context_tokens
    session = DecoderSession(graph.SerializeToString(), SLOTS, context)
    cases = golden.cases(tokenizer, chat.ChatTemplate(template, tokenizer), context)
    answers = golden.make(cases, ReferenceDecoder(weights), [session])
    contents = {
        "golden.json": to_json(answers),
        "model.int8.onnx": graph.SerializeToString(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    manifest = describe(model_folder.name, weights.config, graph, template, contents)
    write(model_folder, to_json(manifest), contents)


def byte_tokenizer() -> Tokenizer:
    tokens = [*CONTROLS, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[tuple(merge.split()) for merge in MERGES]
    )
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(list(CONTROLS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def random_weights(vocabulary_size: int) -> DecoderWeights:
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
    random = np.random.default_rng(7)

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        return (random.standard_normal((outputs, inputs)) * 1.5 / np.sqrt(inputs)).astype(np.float32)

    def norm() -> np.ndarray:
        return (1 + 0.1 * random.standard_normal(config.hidden_size)).astype(np.float32)

    def layer() -> DecoderLayer:
        query_rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
        hidden, intermediate = config.hidden_size, config.intermediate_size
        return DecoderLayer(
            attention_norm=norm(),
            query=matrix(query_rows, hidden),
            key=matrix(kv_rows, hidden),
            value=matrix(kv_rows, hidden),
            output=matrix(hidden, query_rows),
            ffn_norm=norm(),
            gate=matrix(intermediate, hidden),
            up=matrix(intermediate, hidden),
            down=matrix(hidden, intermediate),
        )

    embedding = matrix(vocabulary_size, config.hidden_size)
    return DecoderWeights(config, embedding, tuple(layer() for _ in range(config.layers)), norm(), None)


def describe(
    name: str,
    config: DecoderConfig,
    graph: onnx.ModelProto,
    template: list[bundle_pb2.ChatMarkup],
    contents: dict[str, bytes],
) -> bundle_pb2.Manifest:
    manifest = bundle_pb2.Manifest(
        format_version=1,
        name=name,
        source=bundle_pb2.Source(uri="file:random", sha256="0" * 64, license="Apache-2.0", owner="tests"),
        onnxruntime_version=onnxruntime.__version__,
        golden_file="golden.json",
    )
    for path, content in sorted(contents.items()):
        manifest.files.add(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    entry = manifest.graphs.add(
        precision=bundle_pb2.PRECISION_INT8_BLOCK,
        file="model.int8.onnx",
        opset=OPSET,
        cpu_feature=bundle_pb2.CPU_FEATURE_NONE,
        tolerance=bundle_pb2.Tolerance(max_abs_error=2.0, min_cosine=0.9),
    )
    entry.inputs.extend(tensor(value) for value in graph.graph.input)
    entry.outputs.extend(tensor(value) for value in graph.graph.output)
    manifest.tokenizer.file = "tokenizer.json"
    manifest.tokenizer.vocabulary_size = config.vocabulary_size
    manifest.tokenizer.max_tokens = config.context_tokens
    task = manifest.generation
    task.kv_cache.layers, task.kv_cache.kv_heads = config.layers, config.kv_heads
    task.kv_cache.head_dimensions = config.head_dim
    task.max_chunk_tokens = largest_chunk(config.head_dim)
    task.stop_token_ids.append(CONTROLS.index("<end>"))
    task.chat_template.extend(template)
    return manifest


def tensor(value: onnx.ValueInfoProto) -> bundle_pb2.Tensor:
    types = {
        onnx.TensorProto.FLOAT: bundle_pb2.ELEMENT_TYPE_FLOAT32,
        onnx.TensorProto.INT32: bundle_pb2.ELEMENT_TYPE_INT32,
        onnx.TensorProto.INT64: bundle_pb2.ELEMENT_TYPE_INT64,
    }
    axes = [axis.dim_param or str(axis.dim_value) for axis in value.type.tensor_type.shape.dim]
    return bundle_pb2.Tensor(name=value.name, element_type=types[value.type.tensor_type.elem_type], shape=axes)


def to_json(message: bundle_pb2.Manifest | bundle_pb2.GenerationGoldenFile) -> bytes:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    ).encode()


def write(model_folder: Path, manifest: bytes, contents: dict[str, bytes]) -> None:
    revision = hashlib.sha256(manifest).hexdigest()[:16]
    folder = model_folder / revision
    folder.mkdir(parents=True)
    for path, content in {"bundle.json": manifest, **contents}.items():
        (folder / path).write_bytes(content)
    (model_folder / "current").write_text(json.dumps({"revision": revision, "history": []}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
