"""English words on hands: the hand, its parts and what it does."""

import re

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
HAND_WORDS = re.compile(rf"\b(?:(?P<other>{OTHERS})|{PARTS}|{ACTIONS})\b", re.IGNORECASE)
_SIDE_WORDS = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left"}


def hand_words(caption: str) -> list[tuple[int, int]]:
    """Finds hands, their parts and what they do.

    Args:
        caption: in English.

    Returns:
        Start and end of each word in characters, in order.

    Source:
        DECISIONS D4, by its word list.
    """
    return [match.span() for match in HAND_WORDS.finditer(caption) if not match["other"]]


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
