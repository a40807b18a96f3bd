"""Records what PyTorch says of some models, so that readers and references are held to something foreign on every run.

    pip install -e 'python-research[torch]'
    cd python-research && python tests/record_torch.py

writes `data/torch_outputs.json`, which `test_torch_outputs.py` reads. The extra is gigabytes, and so not there where
tests run. Everything that is recorded was read by sentence-transformers and transformers alone: tokenizers, poolings,
GGUF and chat templates too.
"""

import contextlib
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tiny
import tiny_decoder
from safetensors.numpy import save_file

from triptych_research.embedding.golden import TEXTS
from triptych_research.recipes import CHAT, ENCODER
from triptych_research.sources import Source

CACHE = pathlib.Path(__file__).parents[2] / ".cache/wheels"
FILE = pathlib.Path(__file__).parent / "data/torch_outputs.json"
NUMBERS = 16  # of each vector of the default encoder
TINY_TEXTS = ("a", "the heart of it", "No, it IS not! the quick brown fox, or a dog?")
TINY_IDS = [5, 17, 80, 3, 17, 42, 9, 9, 1]
NEW_TOKENS = 12
# A text, or what the user says.
PROMPTS: tuple[str | list[dict[str, str]], ...] = (
    "The days of the week are Monday, Tuesday,",
    [{"role": "user", "content": "What is the capital of France?"}],
)

Layout = Callable[[pathlib.Path], None]


def as_older_files_have_it(folder: pathlib.Path) -> None:
    flags = {f"pooling_mode_{name}": False for name in ("cls_token", "max_tokens", "mean_sqrt_len_tokens")}
    pooling = {"word_embedding_dimension": tiny.CONFIG.hidden_size, "pooling_mode_mean_tokens": True, **flags}
    tiny.write_json(folder / "1_Pooling/config.json", pooling)


def as_newer_files_have_it(folder: pathlib.Path) -> None:
    pooling = {"embedding_dimension": tiny.CONFIG.hidden_size, "pooling_mode": "mean", "include_prompt": True}
    tiny.write_json(folder / "1_Pooling/config.json", pooling)
    tiny.write_json(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})


def in_lower_case(folder: pathlib.Path) -> None:
    as_older_files_have_it(folder)
    tiny.write_json(folder / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": True})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    tiny.write_json(folder / "tokenizer.json", tokenizer)


def without_normalisation(folder: pathlib.Path) -> None:
    as_older_files_have_it(folder)
    tiny.write_json(folder / "modules.json", modules()[:2])


def with_the_first_names(folder: pathlib.Path) -> None:
    as_older_files_have_it(folder)
    tensors = {
        f"bert.{name}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in tiny.tensors().items()
    }
    save_file(
        {**tensors, "cls.predictions.bias": np.zeros(100, np.float32)}, folder / "model.safetensors", {"format": "pt"}
    )


LAYOUTS: Mapping[str, Layout] = {
    each.__name__: each
    for each in (
        as_older_files_have_it,
        as_newer_files_have_it,
        in_lower_case,
        without_normalisation,
        with_the_first_names,
    )
}


def write_tiny(folder: pathlib.Path, layout: str) -> pathlib.Path:
    """Write the tiny encoder's files in one of the layouts, with what transformers wants to know of its tokenizer."""
    tiny.write(folder)
    save_file(tiny.tensors(), folder / "model.safetensors", {"format": "pt"})
    tiny.write_json(folder / "modules.json", modules())
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tiny.MAX_TOKENS}
    tiny.write_json(folder / "tokenizer_config.json", settings | special)
    LAYOUTS[layout](folder)
    return folder


def modules() -> list[dict[str, Any]]:
    paths = ("", "1_Pooling", "2_Normalize")
    return [{"idx": index, "name": str(index), "path": paths[index], **each} for index, each in enumerate(tiny.MODULES)]


def main() -> None:
    import sentence_transformers
    import torch
    import transformers

    libraries = (torch, transformers, sentence_transformers)
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        outputs = {
            "made_with": {each.__name__: each.__version__ for each in libraries},
            "encoder": vectors(unpacked(ENCODER.origin.fetch(CACHE), root / "encoder"), TEXTS, NUMBERS),
            "tiny_encoder": {each: vectors(write_tiny(root / each, each), TINY_TEXTS) for each in LAYOUTS},
            "tiny_decoder": [tiny_logits(root / f"tied-{tied}", tied) for tied in (True, False)],
            "decoder": decoder(unpacked(CHAT.origin.fetch(CACHE), root / "decoder")),
        }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(_in_lines(json.dumps(outputs, indent=1, ensure_ascii=False)) + "\n")


def _in_lines(content: str) -> str:
    """Put the numbers of a list, or of logits by their ids, into one line."""
    return re.sub(r",\n *(?=[-\d]|\"\d+\": )", ", ", content)


def unpacked(source: Source, folder: pathlib.Path) -> pathlib.Path:
    """Copy a source's files, whatever they are in, to where a library reads them."""
    folder.mkdir()
    for entry in source.files.iterdir():
        names = [entry.name] if entry.is_file() else [f"{entry.name}/{file.name}" for file in entry.iterdir()]
        for name in names:
            with contextlib.suppress(OSError):
                (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(source.files.joinpath(*name.split("/")).read_bytes())
    return folder


def vectors(folder: pathlib.Path, texts: tuple[str, ...], numbers: int | None = None) -> dict[str, list[float]]:
    """Return the first numbers of each text's vector; the texts that are longer than the model takes are left out."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    fitting = [text for text in texts if len(model.tokenizer(text)["input_ids"]) <= model.max_seq_length]
    return {text: model.encode(text)[:numbers].tolist() for text in fitting}


def tiny_logits(folder: pathlib.Path, tied: bool) -> dict[str, Any]:
    import torch
    import transformers

    folder.mkdir()
    tiny_decoder.write_folder(folder, tiny_decoder.dense_weights(tied=tied))
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return {"tied": tied, **answer(model, TINY_IDS)}


def decoder(folder: pathlib.Path) -> list[dict[str, Any]]:
    import torch
    import transformers

    (file,) = folder.glob("*.gguf")
    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32).eval()
    answers = []
    for prompt in PROMPTS:
        if isinstance(prompt, str):
            ids = tokenizer(prompt)["input_ids"]
        else:
            text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        answers.append({"prompt": prompt, "prompt_ids": ids, **answer(model, ids)})
    return answers


def answer(model: Any, ids: list[int]) -> dict[str, Any]:
    """Return the logits of the likeliest tokens and of some others after the ids, and the greedy continuation."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].numpy()  # [vocabulary]
        text = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None)[0]
    kept = sorted({*np.argsort(logits)[-8:].tolist(), *np.linspace(0, len(logits) - 1, 24).astype(int).tolist()})
    return {
        "logits": {str(index): float(logits[index]) for index in kept},
        "token_ids": text[len(ids) :].tolist(),
    }


if __name__ == "__main__":
    main()
