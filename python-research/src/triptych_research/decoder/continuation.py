"""A greedy continuation, as the reference and the graphs both report it."""

from dataclasses import dataclass, field

import numpy as np

from triptych_research.blocks import Floats


@dataclass
class Continuation:
    """What one implementation says after a prompt."""

    next_token_logits: Floats  # [vocabulary], after the prompt
    token_ids: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)  # best logit less the second best, at each token

    def take_likeliest(self, logits: Floats) -> None:
        """Append the likeliest token of [vocabulary] logits; of equal ones the first."""
        best = int(np.argmax(logits))
        second = max(logits[:best].max(initial=-np.inf), logits[best + 1 :].max(initial=-np.inf))
        self.token_ids.append(best)
        self.margins.append(float(logits[best] - second))
