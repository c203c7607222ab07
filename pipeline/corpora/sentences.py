"""English sentences from a small grammar: grammatical, varied in sounds, and different for every key."""

from __future__ import annotations

import random
from collections.abc import Sequence


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = _words(
    "sailor baker teacher farmer painter doctor gardener singer driver neighbour lawyer carpenter fisherman librarian engineer "
    "musician shepherd postman jeweller captain student grandmother cousin tailor miller waiter nurse pilot butcher clerk"
)
THINGS = _words(
    "lantern bottle ladder basket letter kettle window blanket hammer mirror bicycle pocket saddle trumpet ribbon barrel candle "
    "needle jacket feather shovel parcel compass violin drawer engine pillow teapot notebook wagon umbrella carpet key bell rope "
    "chair map box stone coin"
)
PLACES = _words(
    "harbour market village station garden bridge valley kitchen orchard castle library island meadow mountain tavern chapel "
    "factory museum forest cellar river theatre lighthouse courtyard farm beach railway attic square mill"
)
QUALITIES = _words(
    "quiet yellow heavy ancient narrow gentle crooked silver broken purple cheerful frozen hollow clever dusty wooden golden "
    "pale thirsty shallow honest slender foreign rusty velvet bright curious stubborn tiny huge warm green rough smooth young "
    "old strange simple thick famous"
)
ACTIONS = _words(
    "carried painted borrowed lifted followed repaired measured hid noticed polished delivered emptied watched dragged bought "
    "covered sold cleaned opened pushed remembered wrapped counted found weighed dropped moved filled chose described"
)
MOTIONS = _words(
    "walked hurried wandered travelled returned climbed drove sailed rode ran marched strolled stumbled rushed crept flew moved "
    "swam jumped waited"
)
MANNERS = _words(
    "slowly quickly carefully silently happily suddenly proudly gently nervously bravely politely eagerly calmly loudly again "
    "together softly easily secretly patiently"
)
POSITIONS = _words("behind beside near above under across beyond around towards inside through past over below against")
TIMES = (
    "before sunrise",
    "after the storm",
    "on Thursday morning",
    "every winter",
    "in the early evening",
    "during the long summer",
    "at midnight",
    "for the second time",
    "without a single word",
    "until the church bells rang",
    "just before the rain",
    "in the thick fog",
    "last October",
    "while nobody was looking",
    "at the usual hour",
    "on a cold afternoon",
    "as the sun went down",
    "after a short rest",
)
LINKS = _words("and but so because although while until before after")
NUMBERS = _words("two three four five six seven eight nine eleven twelve fifteen twenty")
OWNERS = _words("the my your his her our their this that")


def sentence(key: str, *, num_words: int) -> str:
    """A sentence of about ``num_words`` words (at least that many, up to nine more), the same for the same key."""
    draw = random.Random(key)
    words = _clause(draw)
    while len(words) < num_words:
        words += _addition(draw)
    return f"{' '.join(words)}.".replace(words[0], words[0].capitalize(), 1)


def _addition(draw: random.Random) -> list[str]:
    """What makes a sentence longer: a time, a place or another clause."""
    kind = draw.randrange(3)
    if kind == 0:
        return draw.choice(TIMES).split()
    if kind == 1:
        return _place(draw)
    return [draw.choice(LINKS), *_clause(draw)]


def _clause(draw: random.Random) -> list[str]:
    if draw.random() < 0.6:
        return [*_noun_phrase(draw, PEOPLE), draw.choice(ACTIONS), *_noun_phrase(draw, THINGS)]
    return [*_noun_phrase(draw, PEOPLE), draw.choice(MOTIONS), draw.choice(MANNERS), *_place(draw)]


def _place(draw: random.Random) -> list[str]:
    return [draw.choice(POSITIONS), *_noun_phrase(draw, PLACES)]


def _noun_phrase(draw: random.Random, nouns: Sequence[str]) -> list[str]:
    """``the purple lantern``, ``my seven lanterns``."""
    kind = draw.randrange(4)
    noun = draw.choice(nouns)
    if kind == 0:
        return ["the", draw.choice(NUMBERS), _plural(noun)]
    if kind == 1:
        return [draw.choice(OWNERS), noun]
    return [draw.choice(OWNERS), draw.choice(QUALITIES), noun]


def _plural(noun: str) -> str:
    if noun.endswith("man"):
        return noun[:-3] + "men"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
