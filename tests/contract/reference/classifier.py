"""A head on an embedding model: text to scores."""

from collections.abc import Callable
from dataclasses import dataclass

from triptych_research.bundle import Bundle
from triptych_research.classification.graph import HeadSession
from triptych_research.classification.windows import windows

from contract.reference.model import Embedder, Model


@dataclass(frozen=True)
class Verdict:
    """One text's scores, one for each label, and the tokens of all its windows."""

    scores: list[float]
    tokens: int


class Classifier(Model):
    """Text to scores, through the encoder that is served."""

    def __init__(self, found: Bundle, encoder: Embedder) -> None:
        super().__init__(found)
        self._encoder = encoder
        self._session = HeadSession(found.path / self.graph.file)

    def classify(self, text: str, still_wanted: Callable[[], bool]) -> Verdict:
        """Score a text of any length: each label has the highest score of any window."""
        parts = windows(self._encoder.tokenize(text)[0], self._encoder.bundle.manifest.tokenizer.max_tokens)
        vectors = self._encoder.embed(parts, still_wanted)  # [windows, dimensions]
        return Verdict(self._session.highest(vectors).tolist(), sum(map(len, parts)))
