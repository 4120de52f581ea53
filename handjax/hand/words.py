"""English words on hands: the hand, its parts and what it does."""

import functools
import importlib
import re
from collections.abc import Callable, Sequence

from handjax.record import Side

PARTS = r"hands?|fingers?|forefingers?|fingertips?|thumbs?|palms?|fists?|wrists?|knuckles?|gestures?"
ACTIONS = (
    r"beckoning|caressing|catching|clapping|clasping|clenching|clutching|cupping|fidgeting|flexing|gesturing|grabbing|"
    r"grasping|gripping|handing|holding|kneading|knitting|patting|petting|picking|pinching|plucking|pointing|poking|"
    r"pressing|reaching|saluting|scratching|signing|snapping|squeezing|stroking|texting|throwing|touching|typing|waving|"
    r"writing"
)
# Words of another meaning, told by those beside them: idioms, people, things, animals, clocks, food, plants, places. A
# hand of cards is left in, and "on the other hand" is always taken for the idiom. Who does something is not looked at:
# "a tower reaching the clouds" counts as a hand.
OTHERS = (
    r"on the (?:one|other) hand|(?:first|second)[- ]hand|(?:close |near )?at hand|out of hand|hands-(?:free|on)|"
    r"(?:left|right)[- ]hand (?:side|corner|drive|gloves?|lane|turn)|(?:deck|farm|field|hired|ranch|stage)[- ]hands?|"
    r"hand (?:luggage|baggage|brakes?|trucks?|grenades?|saws?|tools?|towels?|soap|cream|sanitizer)|"
    r"(?:hand|finger)-(?:\w+ed|made|held|drawn|written|woven|sewn)|palm-sized|"
    r"(?:hour|minute|clock(?:['’]s)?|watch['’]s|sweep) hands?|hands? of (?:a|the) (?:clock|watch)|"
    r"(?:fish|chicken|lady) fingers?|finger food|thumb drives?|rules? of thumb|green thumb|"
    r"(?:eye|far)-(?:catching|reaching)|writing desks?|knitting (?:needles?|machines?)|snapping turtles?|flags? waving|"
    r"poking (?:out|(?:its|his|her|their) (?:head|nose|tongue)s?)|"
    r"palm (?:trees?|leaf|leaves|fronds?|oil|beach|springs|sunday)"
)
HAND_WORDS = re.compile(rf"\b(?:(?P<other>{OTHERS})|(?P<part>{PARTS})|{ACTIONS})\b", re.IGNORECASE)
# Tags of what may stand between a verb and the hand it is done with: articles, possessives, adjectives, numbers, nouns
# that go with it, as "index" with "finger".
BETWEEN = frozenset({"DT", "PRP$", "POS", "JJ", "CD", "NN"})
Tagger = Callable[[list[str]], Sequence[tuple[str, str]]]
"""Words of a caption → each with its part of speech, in the tags of the Penn Treebank, as nltk.pos_tag gives them."""
_WORDS = re.compile(r"['’]s\b|\w+|[^\w\s]")
_SIDE_WORDS = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left"}


def hand_words(caption: str) -> list[tuple[int, int]]:
    """Finds hands, their parts and what they do.

    Hands and parts are those of a list. What they do are verbs in -ing: by NLTK's tags where it is on this machine with
    its data, otherwise of a list (`told_by`).

    Args:
        caption: in English.

    Returns:
        Start and end of each word in characters, in order.

    Source:
        DECISIONS D4.
    """
    matches = list(HAND_WORDS.finditer(caption))
    tagger = find_tagger()
    if tagger is None:
        return [match.span() for match in matches if not match["other"]]
    parts = [match.span() for match in matches if match["part"]]
    others = [match.span() for match in matches if match["other"]]
    listed = {match.start() for match in matches if not match["other"] and not match["part"]}
    return sorted(parts + _verbs(caption, tagger, {start for start, _ in parts}, listed, others))


@functools.cache
def find_tagger() -> Tagger | None:
    """NLTK's tagger, where the package and its English data are on this machine; nothing is downloaded."""
    try:
        return importlib.import_module("nltk.tag.perceptron").PerceptronTagger().tag
    except (ImportError, LookupError):
        return None


def told_by() -> str:
    """What tells the verbs among words on hands: they differ a little."""
    return "word list" if find_tagger() is None else "NLTK's part-of-speech tags"


def _verbs(
    caption: str, tagger: Tagger, parts: set[int], listed: set[int], others: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Words that are tagged as verbs in -ing and are on hands: listed ones, and those with a hand as object or subject.

    Args:
        caption: as it is.
        tagger: of its words.
        parts: where words for hands and their parts start.
        listed: where listed verbs do.
        others: start and end of idioms, in which no word is on hands.
    """
    words = list(_WORDS.finditer(caption))
    tags = [tag for _, tag in tagger([word[0] for word in words])]
    found = []
    for place, word in enumerate(words):
        if tags[place] != "VBG" or any(start <= word.start() < end for start, end in others):
            continue
        subject = place > 0 and words[place - 1].start() in parts
        following = range(place + 1, len(words))
        first = next((i for i in following if words[i].start() in parts or tags[i] not in BETWEEN), None)
        if word.start() in listed or subject or (first is not None and words[first].start() in parts):
            found.append(word.span())
    return found


def swap_sides(caption: str) -> str:
    """Exchanges the words left and right, as a mirrored picture or hand needs."""

    def other(match: re.Match[str]) -> str:
        swapped = _OTHER_SIDE[match[0].lower()]
        return swapped.capitalize() if match[0][0].isupper() else swapped

    return _SIDE_WORDS.sub(other, caption)


def named_side(caption: str) -> Side | None:
    """The side that a caption names first; None where it names none."""
    match = _SIDE_WORDS.search(caption)
    return None if match is None else "left" if match[0].lower() == "left" else "right"
