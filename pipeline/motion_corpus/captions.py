"""What a clip is called: adjectives from size and colour, a verb from the motion, an adverb from
the speed. The same words name what can be chosen, so a caption is always true of its clip."""

from __future__ import annotations

import numpy as np

# Red, green, blue in [0, 1].
COLOURS = {
    "red": (0.85, 0.12, 0.12),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.93, 0.85, 0.15),
    "green": (0.15, 0.62, 0.20),
    "turquoise": (0.10, 0.70, 0.68),
    "blue": (0.15, 0.28, 0.85),
    "purple": (0.50, 0.18, 0.68),
    "pink": (0.95, 0.50, 0.70),
    "white": (0.95, 0.95, 0.95),
    "black": (0.12, 0.12, 0.12),
}
# Height of the figure as a share of the recorded one; "" is a size that nobody would mention.
SIZES = {"small": 0.8, "": 1.0, "tall": 1.18}
# Speed as a multiple of the recorded one.
SPEEDS = {"slow": 0.7, "steady": 1.0, "quick": 1.5}

_NOUNS = ("figure", "person", "human", "dancer", "athlete")
_VERBS = {
    "backflip": ("backflips", "flips backwards", "somersaults"),
    "cartwheel": ("cartwheels", "turns a cartwheel"),
    "crawl": ("crawls", "creeps"),
    "dance_a": ("dances", "steps and sways"),
    "dance_b": ("dances", "sways and swings"),
    "getup_facedown": ("gets up", "rises", "pushes up and stands"),
    "getup_faceup": ("gets up", "rises", "sits up and stands"),
    "jump": ("jumps", "leaps", "hops"),
    "kick": ("kicks", "steps and kicks"),
    "punch": ("punches", "strikes"),
    "roll": ("rolls", "tumbles"),
    "run": ("runs", "sprints", "jogs"),
    "spin": ("spins", "twirls", "turns"),
    "spinkick": ("spins and kicks", "whirls and kicks"),
    "walk": ("walks", "strolls"),
}
_ADVERBS = {
    "slow": ("slowly", "gently", "lazily"),
    "steady": ("steadily", "calmly", "evenly"),
    "quick": ("quickly", "swiftly", "briskly"),
}


def write_caption(
    motion: str, colour: str, size: str, speed: str, generator: np.random.Generator
) -> str:
    """A sentence such as "a small red figure cartwheels quickly", in one of three word orders."""

    def one_of(words: tuple[str, ...]) -> str:
        return words[int(generator.integers(len(words)))]

    verb, adverb, noun = one_of(_VERBS[motion]), one_of(_ADVERBS[speed]), one_of(_NOUNS)
    subject = " ".join(word for word in (size, colour, noun) if word)
    article = "an" if subject[0] in "aeiou" else "a"
    orders = (
        f"{article} {subject} {verb} {adverb}",
        f"{article} {subject} {adverb} {verb}",
        f"{adverb} the {subject} {verb}",
    )
    return one_of(orders)
