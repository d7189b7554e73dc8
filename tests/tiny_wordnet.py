"""A WordNet of some twenty synsets in its own format, captions and an encoder to match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sweettok.lexicon_building.caption_statistics import CaptionStatistics, ParsedToken

_DATA = {
    "noun": """\
00000010 05 n 01 dog 0 001 @ 00000020 n 0000 | a loyal animal; "the small red dog runs quickly"
00000020 05 n 02 animal 0 wild_beast 0 000 | a living thing that moves
00000030 06 n 01 ball 0 000 | a round object; "she slowly rolls the red ball"
00000040 09 n 01 idea 0 000 | the content of thinking
00000050 19 n 01 rain 0 001 @ 00000060 n 0000 | water that falls; "a red rain fell down"
00000060 19 n 01 atmospheric_phenomenon 0 000 | a phenomenon of the atmosphere
00000070 08 n 01 hair 0 000 | what grows on a dog
00000080 07 n 02 color 0 colour 0 000 | a look
00000090 18 n 01 brute 0 001 ;u 00000100 n 0000 | a rude person
00000100 10 n 01 disparagement 0 000 | a slight
00000110 27 n 01 China 0 000 | a proper name that is no visual word
""",
    "verb": """\
00000010 38 v 01 run 0 000 01 + 02 00 | move fast; "the dog runs quickly"
00000020 38 v 01 roll 0 000 01 + 08 00 | turn over; "she slowly rolls the red ball"
00000030 31 v 02 think 0 run 0 000 01 + 02 00 | use the mind
""",
    "adj": """\
00000010 00 a 01 chromatic 0 002 & 00000020 a 0000 = 00000080 n 0000 | having a hue
00000020 00 s 01 red(a) 0 001 & 00000010 a 0000 | of the hue of blood
00000030 00 a 01 hairy 0 001 + 00000070 n 0101 | like a dog
00000040 00 a 01 moral 0 000 | concerned with right and wrong
00000050 01 a 01 rainy_day 0 001 \\ 00000050 n 0101 | relating to need
""",
    "adv": """\
00000010 02 r 01 quickly 0 000 | with rapid movements
00000020 02 r 01 slowly 0 000 | without speed
00000030 02 r 01 often 0 000 | at many times
00000040 02 r 01 down 0 000 | toward a lower position
00000050 02 r 01 needily 0 001 \\ 00000050 a 0101 | in a needy manner
""",
}
_INDEX = {
    "noun": """\
animal n 1 0 1 1 00000020
ball n 1 0 1 1 00000030
brute n 1 0 1 0 00000090
china n 1 0 1 0 00000110
dog n 1 1 @ 1 1 00000010
hair n 1 0 1 1 00000070
idea n 1 0 1 1 00000040
rain n 1 1 @ 1 1 00000050
wild_beast n 1 0 1 1 00000020
""",
    "verb": """\
roll v 1 0 1 1 00000020
run v 2 0 2 2 00000010 00000030
think v 1 0 1 0 00000030
""",
    "adj": """\
chromatic a 1 2 & = 1 0 00000010
hairy a 1 1 + 1 1 00000030
moral a 1 0 1 1 00000040
red a 1 1 & 1 1 00000020
""",
    "adv": """\
down r 1 0 1 1 00000040
needily r 1 0 1 0 00000050
often r 1 0 1 1 00000030
quickly r 1 0 1 1 00000010
slowly r 1 0 1 1 00000020
""",
}
_TAG_COUNTS = """\
dog%1:05:00:: 1 42
ball%1:06:00:: 1 7
red%5:00:00:chromatic:00 1 9
run%2:38:00:: 1 30
run%2:31:00:: 2 10
quickly%4:02:00:: 1 5
"""


_EXCEPTIONS = {"noun": "oxen ox\n", "verb": "ran run\n", "adj": "", "adv": ""}


def write_wordnet(directory: Path) -> Path:
    """Writes the database and returns its directory."""
    for suffix in _DATA:
        (directory / f"data.{suffix}").write_text("  1 the licence\n" + _DATA[suffix])
        (directory / f"index.{suffix}").write_text("  1 the licence\n" + _INDEX[suffix])
        (directory / f"{suffix}.exc").write_text(_EXCEPTIONS[suffix])
    (directory / "cntlist.rev").write_text(_TAG_COUNTS)
    return directory


def caption(*tokens: tuple[str, str, str, int]) -> list[ParsedToken]:
    """A parsed caption."""
    return [ParsedToken(*token) for token in tokens]


_RED_DOG_RUNS_QUICKLY = caption(
    ("red", "ADJ", "amod", 1),
    ("dog", "NOUN", "nsubj", 2),
    ("run", "VERB", "ROOT", 2),
    ("quickly", "ADV", "advmod", 2),
)
_HAIRY_BALL_ROLLS_DOWN = caption(
    ("hairy", "ADJ", "amod", 1),
    ("ball", "NOUN", "nsubj", 2),
    ("roll", "VERB", "ROOT", 2),
    ("down", "ADP", "prt", 2),
)


def tiny_statistics() -> CaptionStatistics:
    """What two captions about a dog and one about a ball say."""
    gathered = CaptionStatistics()
    for tokens in (_RED_DOG_RUNS_QUICKLY, _RED_DOG_RUNS_QUICKLY, _HAIRY_BALL_ROLLS_DOWN):
        gathered.add(tokens)
    return gathered


class LetterCounts:
    """A text encoder small enough to check by hand: how often each letter occurs."""

    name, licence, embedding_dim, known_words = "letter counts", "none", 26, None

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The counts of the letters a to z in each text."""
        return torch.tensor(
            [[text.count(chr(97 + i)) for i in range(26)] for text in texts]
        ).float()
