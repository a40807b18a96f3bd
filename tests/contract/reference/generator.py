"""A model that continues texts greedily, one at a time: no batch and no reuse, so that no text depends on another."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from triptych.inference.v1 import inference_pb2 as pb
from triptych_research.bundle import Bundle
from triptych_research.decoder.chat import ChatTemplate, Message
from triptych_research.decoder.session import DecoderSession, Row

from contract.reference.model import TokenModel
from contract.reference.refusal import Refusal
from contract.reference.text import TextSoFar, token_bytes

Logits = NDArray[np.float64]

ROLES = {pb.ROLE_SYSTEM: "system", pb.ROLE_USER: "user", pb.ROLE_ASSISTANT: "assistant"}


@dataclass(frozen=True)
class Terms:
    """What a request says of its continuations, its defaults filled in."""

    max_tokens: int
    choices: int
    stop: pb.Stop
    top_logprobs: int | None


class Generator(TokenModel):
    """Ids to continuations. Requests take turns."""

    def __init__(self, found: Bundle) -> None:
        super().__init__(found)
        manifest = found.manifest
        template = manifest.generation.chat_template
        self.chat = ChatTemplate(template, self.tokenizer) if template else None
        self._bytes = token_bytes(self.tokenizer)
        self._session = DecoderSession(found.path / self.graph.file, slots=1, capacity=manifest.tokenizer.max_tokens)
        self._turn = threading.Lock()

    def conversation_ids(self, messages: Sequence[pb.Message]) -> list[int]:
        """Return the ids of a conversation, up to where the reply begins."""
        if self.chat is None:
            raise Refusal("MODEL_TASK_MISMATCH", "the model has no chat template", field="model")
        return self.chat.encode([Message(ROLES[message.role], message.content) for message in messages])

    def generate(self, prompt: list[int], terms: Terms, still_wanted: Callable[[], bool]) -> Iterator[pb.GenerateDelta]:
        """Continue a prompt, choice after choice; a delta for each token."""
        stop_ids = {*terms.stop.token_ids}
        if not terms.stop.ignore_eos:
            stop_ids.update(self.bundle.manifest.generation.stop_token_ids)
        with self._turn:
            for choice in range(terms.choices):
                yield from self._choice(choice, prompt, terms, stop_ids, still_wanted)

    def _choice(
        self, choice: int, prompt: list[int], terms: Terms, stop_ids: set[int], still_wanted: Callable[[], bool]
    ) -> Iterator[pb.GenerateDelta]:
        text = TextSoFar(terms.stop.strings)
        (row,) = self._session.prefill([prompt])
        for said in range(1, terms.max_tokens + 1):
            if not still_wanted():
                raise Refusal("CANCELLED", "the caller is gone")
            logits = row.astype(np.float64)  # [vocabulary]
            allowed = logits.copy()
            if said <= terms.stop.min_tokens:
                allowed[sorted(stop_ids)] = -np.inf
            token = int(np.argmax(allowed))
            delta = pb.GenerateDelta(choice=choice, tokens=[self._describe(token, logits, terms.top_logprobs)])
            self._tell(delta, text, said, terms, stop_ids)
            yield delta
            if delta.HasField("finish"):
                return
            (row,) = self._session.run([Row(token, 0, len(prompt) + said - 1)], [0])

    def _tell(self, delta: pb.GenerateDelta, text: TextSoFar, said: int, terms: Terms, stop_ids: set[int]) -> None:
        """Write the delta's text, and why the choice ends with it if it does."""
        token, search = delta.tokens[0].id, said > terms.stop.min_tokens
        if token in stop_ids:
            delta.finish.stop_token_id = token
        else:
            delta.text = text.push(self._bytes[token], search)
            if said == terms.max_tokens:
                delta.finish.length.SetInParent()
        if delta.HasField("finish") and text.stopped_by is None:
            delta.text += text.finish(search)
        if text.stopped_by is not None:
            delta.finish.stop_string = text.stopped_by

    def _describe(self, token: int, logits: Logits, top: int | None) -> pb.GeneratedToken:
        described = pb.GeneratedToken(id=token, bytes=self._bytes[token])
        if top is not None:
            logprobs = log_probabilities(logits)
            described.logprob = logprobs[token]
            for likely in np.argsort(-logits, kind="stable")[:top].tolist():
                described.top_logprobs.add(id=likely, bytes=self._bytes[likely], logprob=logprobs[likely])
        return described


def log_probabilities(logits: Logits) -> Logits:
    """Return the natural logarithms of the tokens' probabilities [vocabulary]."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.float64)
