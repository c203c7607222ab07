"""Damage of the kinds that files meet: cut, overwritten, edited by hand, saved by another program, or made by an enemy."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

NUMBERS = (b"99999999999999999999", b"-1", b"0", b"1e308", b"nan", b"inf")
NAMES = (b"", b"\xff", b"'", b'"', b"../../x", b"/etc/passwd", b"a\0b")
"""What is put in place of a word."""
Mutation = Callable[[bytes, Random], bytes]


def cut(content: bytes, random: Random) -> bytes:
    """Only the beginning."""
    return content[: random.randrange(len(content) + 1)]


def flip(content: bytes, random: Random) -> bytes:
    """Some bytes are others."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 4, 16))):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def flip_early(content: bytes, random: Random) -> bytes:
    """The same near the beginning, where headers are."""
    return flip(content[:64], random) + content[64:]


def drop(content: bytes, random: Random) -> bytes:
    """A piece is gone."""
    first = random.randrange(len(content) + 1)
    return content[:first] + content[first + random.randrange(40) :]


def repeat(content: bytes, random: Random) -> bytes:
    """A piece is there many times."""
    first = random.randrange(len(content) + 1)
    piece = content[first : first + random.randrange(1, 60)]
    return content[:first] + piece * random.choice((2, 3, 500)) + content[first:]


def replace_word(content: bytes, random: Random) -> bytes:
    """A number or a name is another one."""
    pieces = _words(content)
    places = [number for number, piece in enumerate(pieces) if piece.isalnum()]
    if places:
        pieces[random.choice(places)] = random.choice(NUMBERS + NAMES)
    return b"".join(pieces)


def replace_line(content: bytes, random: Random) -> bytes:
    """A line is gone, there twice, or in another place."""
    lines = content.splitlines(keepends=True)
    if lines:
        line = lines.pop(random.randrange(len(lines)))
        for _ in range(random.randrange(3)):
            lines.insert(random.randrange(len(lines) + 1), line)
    return b"".join(lines)


def encode(content: bytes, random: Random) -> bytes:
    """Saved in another encoding."""
    text = content.decode("latin-1")
    return text.encode(random.choice(("utf-16", "utf-8-sig", "utf-32", "utf-8")), "replace")


def nest(content: bytes, random: Random) -> bytes:
    """Brackets within brackets, deeper than anything that reads them by calling itself can go."""
    place = random.randrange(len(content) + 1)
    return content[:place] + random.choice((b"[", b"{", b'{"a":', b"(")) * 100_000 + content[place:]


def other(content: bytes, random: Random) -> bytes:
    """Something else altogether."""
    things = (
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b"0",
        b'"a"',
        b"\0" * 100,
        b"PK\3\4",
        b"RIFF",
        b"fLaC",
        b"a,b\n1,2\n",
        b"\x80\4\x95",
    )
    return random.choice((*things, random.randbytes(200)))


MUTATIONS: tuple[Mutation, ...] = (cut, flip, flip_early, drop, repeat, replace_word, replace_line, encode, nest, other)


def mutated(content: bytes, random: Random) -> bytes:
    """One or two of them."""
    for _ in range(random.choice((1, 1, 1, 2))):
        content = random.choice(MUTATIONS)(content, random)
    return content


def _words(content: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    kind = None
    for byte in content:
        one = bytes([byte])
        if one.isalnum() == kind:
            pieces[-1] += one
        else:
            pieces.append(one)
        kind = one.isalnum()
    return pieces
