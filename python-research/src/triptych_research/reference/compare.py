"""Compares the NumPy reference with transformers on PyTorch. Needs the extra `torch`; nothing else does."""

import json
from collections.abc import Callable, Sequence

import numpy as np

from triptych_research.embedding import golden
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.reference import ReferenceMismatchError
from triptych_research.reference.bert import SentenceEncoder
from triptych_research.sources import Source

# float32 on PyTorch's side against float64 on ours.
TOLERANCE = 1e-5


def with_torch(source: Source) -> float:
    """Return the largest difference of any element of the golden texts' hidden states.

    Raises ReferenceMismatchError when it is above TOLERANCE, or when the extra is not installed.
    """
    checkpoint = load(source)
    reference, tokenizer = SentenceEncoder(checkpoint), checkpoint.tokenizer()
    theirs = _torch_model(source, checkpoint)
    error = 0.0
    for text in golden.TEXTS:
        token_ids = tokenizer.encode(text).ids
        difference = np.abs(theirs(token_ids) - reference.hidden_states(token_ids))  # [tokens, hidden]
        error = max(error, float(difference.max()))
    if not error <= TOLERANCE:
        raise ReferenceMismatchError(f"NumPy and PyTorch differ by {error:.1e}, above {TOLERANCE:g}")
    return error


def _torch_model(source: Source, checkpoint: Checkpoint) -> Callable[[Sequence[int]], np.ndarray]:
    try:
        import torch
        import transformers
    except ImportError as error:
        hint = "pip install -e 'python-research[torch]'"
        raise ReferenceMismatchError(f"{error.name} is not installed: {hint}") from error
    config = transformers.BertConfig.from_dict(json.loads(source.read("config.json")))
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in checkpoint.tensors.items()})

    def hidden_states(token_ids: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([list(token_ids)]))
        states: np.ndarray = output.last_hidden_state[0].numpy()  # [tokens, hidden]
        return states

    return hidden_states
