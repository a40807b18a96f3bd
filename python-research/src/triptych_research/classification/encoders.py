"""Text to the vectors that a head takes."""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from triptych_research.classification.windows import windows
from triptych_research.embedding.inference import Encoder


@dataclass(frozen=True)
class TextEncoder:
    """One graph of an encoder, with its tokenizer."""

    tokenizer: Tokenizer
    max_tokens: int
    encoder: Encoder

    def embed(self, text: str) -> np.ndarray:
        """Return the vectors [windows, dimensions] of a text of any length."""
        return self.encoder.embed_all(windows(self.tokenizer.encode(text).ids, self.max_tokens))
