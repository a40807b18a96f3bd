"""What sentence-transformers' files say is done, or refused by file and field: nothing is passed over."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import pytest
import tiny

from triptych_research.embedding import card, sentence_files
from triptych_research.embedding.checkpoint import Checkpoint, CheckpointError, load
from triptych_research.sources import Folder

FLAGS = {
    "word_embedding_dimension": 32,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
    "pooling_mode_weightedmean_tokens": False,
    "pooling_mode_lasttoken": False,
    "include_prompt": True,
}
# As sentence-transformers 6.2 writes them.
NEWER: dict[str, Any] = {
    "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True},
    "2_Normalize/config.json": {
        "module_input_name": "sentence_embedding",
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {
        "__version__": {"sentence_transformers": "6.2.0"},
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        "prompts": {"document": "", "query": ""},
        "similarity_fn_name": "cosine",
    },
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        },
        {
            "idx": 2,
            "name": "2",
            "path": "2_Normalize",
            "type": "sentence_transformers.base.modules.normalize.Normalize",
        },
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    },
    "tokenizer_config.json": {"model_max_length": 40, "tokenizer_class": "BertTokenizer"},
}


@pytest.fixture
def folder(tiny_folder: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the tiny model's files, to be changed at will."""
    return shutil.copytree(tiny_folder, tmp_path / "tiny")


def load_folder(folder: pathlib.Path) -> Checkpoint:
    return load(Folder(folder, "MIT", "somebody").fetch(folder))


def write(folder: pathlib.Path, file: str, content: object) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    tiny.write_json(folder / file, content)


def change(folder: pathlib.Path, file: str, **fields: object) -> None:
    raw = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    write(folder, file, raw | fields)


def test_every_layout_says_the_same(folder: pathlib.Path, checkpoint: Checkpoint) -> None:
    write(folder, "1_Pooling/config.json", FLAGS)
    older = load_folder(folder)
    for file, content in NEWER.items():
        write(folder, file, content)
    newer = load_folder(folder)
    for each in (older, newer):
        assert dataclasses.replace(each, tensors={}) == dataclasses.replace(checkpoint, tensors={})


@pytest.mark.parametrize(
    "flag", [name for name in FLAGS if name.startswith("pooling_mode_") and "mean_tokens" not in name]
)
def test_each_other_way_of_pooling_is_refused_beside_the_mean_and_alone(folder: pathlib.Path, flag: str) -> None:
    for mean in (True, False):
        write(folder, "1_Pooling/config.json", FLAGS | {"pooling_mode_mean_tokens": mean, flag: True})
        with pytest.raises(
            CheckpointError, match=rf"1_Pooling/config\.json: pooling_mode: \[.*'{flag}'.* is not supported"
        ):
            load_folder(folder)


@pytest.mark.parametrize(
    ("file", "fields", "complaint"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, "pooling_mode: 'cls' is not supported, only the mean"),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, "pooling_mode: ['mean', 'max'] is not supported"),
        ("1_Pooling/config.json", {"pooling_mode": None}, "pooling_mode: None is not supported"),
        ("1_Pooling/config.json", {"pooling_mode_next_year": True}, "'pooling_mode_next_year'] is not supported"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": "no"}, "pooling_mode_max_tokens: expected bool"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt: false is not supported, only true"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 31}, "word_embedding_dimension: 31 is not supported"),
        ("1_Pooling/config.json", {"temperature": 2}, "temperature: not a field that this exporter knows"),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, 'only "sentence_embedding"'),
        ("sentence_bert_config.json", {"do_lower_case": "yes"}, "do_lower_case: expected bool"),
        (
            "sentence_bert_config.json",
            {"transformer_task": "fill-mask"},
            'transformer_task: "fill-mask" is not supported',
        ),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length: not a field that this exporter knows"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, 'only "SentenceTransformer"'),
        ("config_sentence_transformers.json", {"truncate_dim": 16}, "truncate_dim: 16 is not supported, only null"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "prompts: expected dict"),
        ("config_sentence_transformers.json", {"prompts": {"query": 1}}, "prompts: query: expected str"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "query"},
            "default_prompt_name: 'query' is none of the prompts",
        ),
        ("config.json", {"is_decoder": True}, "config.json: is_decoder: True is not supported, only False"),
    ],
)
def test_what_would_change_a_vector_is_refused_by_file_and_field(
    folder: pathlib.Path, file: str, fields: dict[str, object], complaint: str
) -> None:
    change(folder, file, **fields)
    with pytest.raises(CheckpointError) as caught:
        load_folder(folder)
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ({"path": "0_Transformer"}, r'modules\.json: path: "0_Transformer" is not supported, only "1_Pooling"'),
        ({"kwargs": {"normalize": True}}, r"modules\.json: kwargs: not a field that this exporter knows"),
    ],
)
def test_a_module_that_is_elsewhere_or_has_more_to_say_is_refused(
    folder: pathlib.Path, module: dict[str, object], complaint: str
) -> None:
    modules = list(NEWER["modules.json"])
    modules[1] = modules[1] | module
    write(folder, "modules.json", modules)
    with pytest.raises(CheckpointError, match=complaint):
        load_folder(folder)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"model_max_length": 7}, 7), ({"model_max_length": int(1e30)}, 48), ({"model_max_length": 1e30}, 48), ({}, 48)],
)
def test_without_a_length_of_its_own_the_tokenizer_s_holds(
    folder: pathlib.Path, settings: dict[str, object], expected: int
) -> None:
    write(folder, "sentence_bert_config.json", NEWER["sentence_bert_config.json"])
    write(folder, "tokenizer_config.json", settings)
    assert load_folder(folder).max_tokens == expected


@pytest.mark.parametrize("length", [0, -1, "40", None, True])
def test_a_tokenizer_s_length_that_is_none_is_named(folder: pathlib.Path, length: object) -> None:
    write(folder, "sentence_bert_config.json", {})
    write(folder, "tokenizer_config.json", {"model_max_length": length})
    with pytest.raises(
        CheckpointError, match=r"tokenizer_config\.json: model_max_length: .* is not a number from 1 on"
    ):
        load_folder(folder)


def test_lower_case_comes_first_of_all(folder: pathlib.Path) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text())
    for normalizer in (raw["normalizer"] | {"lowercase": False}, None):
        write(folder, "tokenizer.json", raw | {"normalizer": normalizer})
        for lower, same in ((False, False), (True, True)):
            change(folder, "sentence_bert_config.json", do_lower_case=lower)
            tokenizer = load_folder(folder).tokenizer()
            assert (tokenizer.encode("HeArt").ids == tokenizer.encode("heart").ids) is same


def test_prompts_are_the_caller_s_and_the_card_says_so(folder: pathlib.Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: ", "none": ""}
    change(folder, "config_sentence_transformers.json", prompts=prompts, default_prompt_name="query")
    found = load_folder(folder).prompts
    assert found == sentence_files.Prompts({"query": "query: ", "passage": "passage: "}, "query")
    said = card.prompts_note(found)
    assert '`"query: "` (query), `"passage: "` (passage)' in said
    assert "writes that of *query* unless it is told otherwise" in said
    assert card.prompts_note(sentence_files.Prompts({})) == ""
