"""A head on an embedding model: text to scores."""

from collections.abc import Callable

from triptych_research.bundle import Bundle
from triptych_research.classification.graph import HeadSession
from triptych_research.classification.windows import windows

from contract.reference.model import Embedder, Model


class Classifier(Model):
    """Text to scores, through the encoder that is served."""

    def __init__(self, found: Bundle, encoder: Embedder) -> None:
        super().__init__(found)
        self._encoder = encoder
        self._session = HeadSession(found.path / self.graph.file)

    def windows(self, text: str) -> list[list[int]]:
        """Return the ids of each window of a text of any length."""
        return windows(self._encoder.tokenize(text)[0], self._encoder.bundle.manifest.tokenizer.max_tokens)

    def classify(self, parts: list[list[int]], still_wanted: Callable[[], bool]) -> list[float]:
        """Return a text's scores, one for each label: the highest of any window."""
        vectors = self._encoder.embed(parts, still_wanted)  # [windows, dimensions]
        return list(map(float, self._session.highest(vectors)))
