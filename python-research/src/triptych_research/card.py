"""The model card: what was measured when a bundle was made, for people (CARD.md, plots) and for programs.

None of it is part of what a revision names: timings differ from run to run. It must not measure anything itself.
"""

import datetime
import io
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnxruntime
from matplotlib.figure import Figure

from triptych_research import cpu
from triptych_research.bundle import CARD, MEASUREMENTS
from triptych_research.sources import Source


@dataclass(frozen=True)
class Card:
    """What a family says of a model."""

    summary: str  # what goes in and what comes out
    facts: Mapping[str, str]  # beside those of the source
    body: str  # Markdown
    measured: Mapping[str, Any]  # JSON values
    plots: Mapping[str, Figure]  # by file
    # Graphs that keep too little of the model, by precision, each with the reason.
    left_out: Mapping[str, str] = field(default_factory=dict)

    def render(self, name: str, source: Source, fingerprint: str) -> dict[str, bytes]:
        """Return the card's files. `fingerprint` tells what would make another bundle (export.py)."""
        date, machine = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), _machine()
        facts = {
            "weights": f"`{source.pinned_uri}`, by {source.owner}",
            "SHA-256 of the weights": f"`{source.sha256}`",
            "licence of the weights": source.license,
            **self.facts,
        }
        left_out = [f"**{precision} is left out**: {reason}." for precision, reason in self.left_out.items()]
        exported = f"Exported {date} on {machine}."
        parts = [f"# {name}", self.summary, *left_out, table(["", ""], facts.items()), exported, self.body]
        measured = {"fingerprint": fingerprint, "date": date, "machine": machine, "left_out": dict(self.left_out)}
        return {
            CARD: ("\n\n".join(parts) + "\n").encode(),
            MEASUREMENTS: (json.dumps(measured | dict(self.measured), indent=2) + "\n").encode(),
            **{file: _png(figure) for file, figure in self.plots.items()},
        }


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    names = list(header)
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows))


def _machine() -> str:
    return f"{cpu.model_name()}, {os.cpu_count()} cores, {platform.system()}, ONNX Runtime {onnxruntime.__version__}"


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
