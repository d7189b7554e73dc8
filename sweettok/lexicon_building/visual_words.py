"""Which words name what a video shows, as far as WordNet tells.

A sense is judged by its place in WordNet: a noun or verb by its lexicographer category, an
adjective by the attribute that it is a value of (red → color) or the look that its definition
names, an adverb by the form of its definition ("in a slow manner", "toward the back"). A word is
judged by its senses, weighted by how often each is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sweettok.lexicon_building.wordnet import PARTS_OF_SPEECH, Synset, SynsetKey, WordNet

# Lexicographer categories, lexnames(5WN): animal, artifact, body, food, object, person, plant,
# shape, substance; and what lies below these synsets in other categories.
_VISUAL_NOUNS = frozenset({5, 6, 8, 13, 17, 18, 20, 25, 27})
_VISUAL_NOUN_ROOTS = frozenset(
    {
        "animal_group",
        "atmospheric_phenomenon",
        "crowd",
        "people",
        "physical_phenomenon",
        "tract",
        "urban_area",
        "vegetation",
        "village",
    }
)
# body, change, competition, consumption, contact, creation, motion, perception, weather.
_VISUAL_VERBS = frozenset({29, 30, 33, 34, 35, 36, 38, 39, 43})
# body, object, phenomenon, plant, shape, substance: "hairy", "rocky", "snowy", "leafy", "woody".
_THINGS_THAT_MAKE_ADJECTIVES = frozenset({8, 17, 19, 20, 25, 27})
_RELATIONAL_ADJECTIVE = 1
_VISUAL_ATTRIBUTES = re.compile(
    r"age|animateness|animation|attractiveness|beauty|body_weight|breakableness|clarity|cleanness|"
    r"clearness|color|complexion|consistency|cubicity|curliness|depth|direction|distance|dormancy|"
    r"dullness|evenness|freshness|fullness|happiness|hardness|health|height|hue|length|light|"
    r"liveliness|luminosity|magnitude|maturity|motion|numerousness|opacity|orientation|position|"
    r"sex|shape|sharpness|size|solidity|speed|state_of_matter|stature|strength|tameness|"
    r"temperature|texture|thickness|value|weight|wetness|width|wildness"
)
_LOOK = re.compile(
    r"\b(bare|carved|closed|clothes|clothing|clouds|colou?rs?|covered|cracked|decorated|dressed|"
    r"edges?|fabric|flowers|fur|hair|leaves|lighted|lines|marked with|naked|opening|"
    r"patterns?|pieces|pointed|shaped?|sharp|shut|skin|spots?|stripes?|surface|wearing|wood)\b"
)
_MANNER_OR_DIRECTION = re.compile(
    r"^(\(.*?\) )?(above|across|along|apart|around|at|away|back|below|beyond|by|close|down|farther|"
    r"firmly|forward|from|further|happening|in|inside|into|near|on|out|outside|over|quickly|"
    r"separated|so as|spatially|taking|through|to|toward|towards|under|up|with|within|without)\b"
)
_TIME_DEGREE_OR_OPINION = re.compile(
    r"\b(accord|addition|agreement|amount|appearances?|certainty|chance|commercial|conclusive|"
    r"conditions|contrary|critical|degree|distinction|doubt|essence|experimental|extent|fact|"
    r"foreign|future|historical|ideal|illegal|instances|intellectual|intensifiers?|law|legal|"
    r"likelihood|linear|luck|means|medicinal|mental|metaphorical|mind|moment|moral|necessary|"
    r"number|occasions?|opinion|original|other respects|part|past|point of view|probability|"
    r"quantity|question|realistic|reality|reference|regard|respect|satisfactory|sense|sentence|"
    r"significant|some place|spite|statistical|this place|that place|another place|any place|"
    r"third|truth|typical|unnecessary|unspecified|way that was not|year)\b|"
    r"^(?!.*\b(place|position|space)\b).*\btimes?\b"
)

_MOST_OFFENSIVE_SHARE = 0.05
_OFFENSIVE_USAGE = frozenset({"disparagement", "ethnic_slur", "obscenity"})
_OFFENSIVE_DEFINITION = re.compile(
    r"\b(contemptuous|derogatory|disparaging|insulting|obscene|offensive|slur|vulgar)\b"
)
_EXPLICIT_DEFINITION = re.compile(
    r"\b(anal sex|anus|bowel movement|copulat\w*|excrement|feces|genital\w*|have sex|"
    r"liquid excretory|penis|prostitut\w*|pubi[cs]|rape|sex organs?|sexual\w*|urinat\w*|vagina\w*|"
    r"vomit\w*)\b"
)


def visual_share(wordnet: WordNet, part_of_speech: str, word: str) -> float:
    """The share of a word's uses, in [0, 1], that are visual senses.

    Senses in which the word is a proper name ("China") count as not visual.
    """
    total = visual = 0.0
    for weight, synset in _weighted_senses(wordnet, part_of_speech, word):
        total += weight
        if word in synset.words and is_visual_sense(wordnet, synset):
            visual += weight
    return visual / total


def is_visual_sense(wordnet: WordNet, synset: Synset) -> bool:
    """Whether a sense can be seen: a thing, its look, a bodily action, a manner or a direction."""
    part = synset.key.part_of_speech
    if part == "noun":
        return synset.category in _VISUAL_NOUNS or _has_visual_root(wordnet, synset)
    if part == "verb":
        return synset.category in _VISUAL_VERBS
    if part == "adjective":
        return (
            _has_visual_attribute(wordnet, synset)
            or _comes_from_thing(wordnet, synset)
            or bool(_LOOK.search(synset.definition))
        )
    return _tells_manner_or_direction(wordnet, synset)


def is_suitable(wordnet: WordNet, part_of_speech: str, word: str) -> bool:
    """Whether a word can be shown to anyone: no slur and no obscenity.

    The senses of all its parts of speech count, rarely used ones ("boy" as a slur) do not. What is
    merely explicit is refused only when it is the word's first sense.
    """
    total = offensive = 0.0
    for part in PARTS_OF_SPEECH:
        for weight, synset in _weighted_senses(wordnet, part, word):
            usage = {wordnet.synsets[key].words[0] for key in synset.targets(";u")}
            is_offensive = usage & _OFFENSIVE_USAGE or _OFFENSIVE_DEFINITION.search(
                synset.definition
            )
            total += weight
            offensive += weight if is_offensive else 0.0
    first = wordnet.senses[part_of_speech, word][0].synset
    return offensive <= _MOST_OFFENSIVE_SHARE * total and not _EXPLICIT_DEFINITION.search(
        first.definition
    )


def _weighted_senses(
    wordnet: WordNet, part_of_speech: str, word: str
) -> Iterator[tuple[float, Synset]]:
    """A sense weighs its tag count plus 1 / its rank: an untagged word leans on its first sense."""
    senses = wordnet.senses.get((part_of_speech, word), ())
    for rank, sense in enumerate(senses, start=1):
        yield sense.tag_count + 1 / rank, sense.synset


def _has_visual_root(wordnet: WordNet, synset: Synset) -> bool:
    seen: set[SynsetKey] = set()
    waiting = [synset.key]
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            if wordnet.synsets[key].words[0] in _VISUAL_NOUN_ROOTS:
                return True
            waiting.extend(wordnet.synsets[key].targets("@"))
    return False


def _has_visual_attribute(wordnet: WordNet, synset: Synset) -> bool:
    heads = [synset, *(wordnet.synsets[key] for key in synset.targets("&"))]
    return any(
        _VISUAL_ATTRIBUTES.fullmatch(wordnet.synsets[key].words[0])
        for head in heads
        for key in head.targets("=")
    )


def _comes_from_thing(wordnet: WordNet, synset: Synset) -> bool:
    """Whether one of its words is made from that of a thing: "hairy" from "hair"."""
    if synset.category == _RELATIONAL_ADJECTIVE:
        return False  # "cardiac", "lunar"
    origins = (wordnet.synsets[key] for key in synset.targets("+"))
    return any(
        adjective != noun and adjective[:3] == noun[:3] and len(noun) < len(adjective)
        for origin in origins
        if origin.category in _THINGS_THAT_MAKE_ADJECTIVES
        for noun in origin.words
        for adjective in synset.words
    )


def _tells_manner_or_direction(wordnet: WordNet, synset: Synset) -> bool:
    origins = [wordnet.synsets[key] for key in synset.targets("\\")]
    if any(origin.category == _RELATIONAL_ADJECTIVE for origin in origins):
        return False  # "chemically", "politically"
    definition = synset.definition
    return bool(
        _MANNER_OR_DIRECTION.search(definition) and not _TIME_DEGREE_OR_OPINION.search(definition)
    )
