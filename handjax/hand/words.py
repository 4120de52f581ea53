"""English words on hands: the hand, its parts and what it does."""

import re

PARTS = r"hands?|fingers?|fingertips?|thumbs?|palms?|fists?|wrists?|knuckles?|gestures?"
ACTIONS = (
    r"beckoning|caressing|catching|clapping|clasping|clenching|clutching|cupping|fidgeting|flexing|gesturing|grabbing|"
    r"grasping|gripping|handing|holding|kneading|knitting|patting|petting|picking|pinching|plucking|pointing|poking|"
    r"pressing|reaching|saluting|scratching|signing|snapping|squeezing|stroking|texting|throwing|touching|typing|waving|"
    r"writing"
)
# Words of another meaning: a hand of a clock or of cards is left in, for nothing in a caption tells it.
OTHERS = (
    r"palm (?:trees?|leaf|leaves|fronds?|oil)|thumb drives?|(?:on the|on one) other hand|(?:first|second)[- ]hand|"
    r"(?:hand|finger)-(?:\w+ed|made|held|drawn|written|woven|sewn)"
)
HAND_WORDS = re.compile(rf"\b(?:(?P<other>{OTHERS})|{PARTS}|{ACTIONS})\b", re.IGNORECASE)


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
