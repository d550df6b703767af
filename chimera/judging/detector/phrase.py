"""Words and phrases: how a text is cut, and how a lexicon's phrases are found in one pass.

A phrase is words with spaces; ``a|b`` is either word, ``vaccin*`` a prefix, ``*itis`` an
ending, ``_`` any one word.
Case, accents, plurals and possessives are folded in lexicon and text alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

MAX_SENTENCE_WORDS = 40
MIN_PREFIX = 3

# What parts the words of a text parts those of a phrase; `|`, `*` and `_` alone are its own.
_APART = re.compile(r"[^\w\s|*'’]|(?<=\w)_|_(?=\w)")
_FILLERS = frozenset(
    (0x115F, 0x1160, 0x2065, 0x3164, 0xFFA0, *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000))
)
"""Shown as nothing, and of no category that says so."""
# Python's own engine: the pattern is ours, and nothing in it can backtrack over more than a word.
_PIECE = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?|[.!?](?=\s|$)|[\n;|]")


class _Seen(dict[int, int | None]):
    """Code points to keep, for `str.translate`: neither marks upon a letter, nor what is shown as nothing."""

    def __missing__(self, code: int) -> int | None:
        letter = chr(code)
        unseen = code in _FILLERS or unicodedata.category(letter) in {"Mn", "Me", "Cf", "Cc"}
        self[code] = None if unseen and not letter.isspace() else code
        return self[code]


_SEEN = _Seen()


class Word(NamedTuple):
    """A folded word, where it stands in the text, and the number of its sentence."""

    text: str
    start: int
    end: int
    sentence: int


def folded(text: str) -> str:
    """Compatibility forms made plain, marks and invisible characters removed, lower case."""
    bare = unicodedata.normalize("NFKD", text).lower().translate(_SEEN)
    return unicodedata.normalize("NFKC", bare).encode("utf-8", "replace").decode()


def singular(word: str) -> str:
    """One form for `shares`, `share's` and `share`; rough, and the same on both sides."""
    word = word.replace("’", "'").removesuffix("'s").replace("'", "")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def words(text: str) -> list[Word]:
    """The words of a folded text. A sentence ends at a stop, a line's end, or `MAX_SENTENCE_WORDS`."""
    found: list[Word] = []
    sentence = length = 0
    for piece in _PIECE.finditer(text):
        token = piece.group()
        if not token[0].isalnum():
            sentence, length = (sentence + 1, 0) if length else (sentence, 0)
            continue
        if length == MAX_SENTENCE_WORDS:
            sentence, length = sentence + 1, 0
        found.append(Word(singular(token), piece.start(), piece.end(), sentence))
        length += 1
    return found


class Match(NamedTuple):
    """A phrase found at words ``first..last`` (inclusive)."""

    phrase: str
    first: int
    last: int


class Phrases:
    """An index over phrases by their first word: a word costs at most `widest` comparisons."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._heads: dict[str, list[tuple[str, tuple[frozenset[str], ...]]]] = defaultdict(list)
        for phrase in phrases:
            steps = tuple(_step(step) for step in _APART.sub(" ", folded(phrase)).split())
            if not steps:
                raise ValueError(f"{phrase!r} holds no word")
            for head in steps[0]:
                self._heads[head].append((phrase, steps[1:]))
        stems = {len(head) - 1 for head in self._heads if head.endswith("*")}
        endings = {len(head) - 1 for head in self._heads if head.startswith("*")}
        self._stems, self._endings = sorted(stems), sorted(endings)

    @property
    def widest(self) -> int:
        """An upper bound of the phrases tried at one word, whatever the word and the text."""
        most = max(map(len, self._heads.values()), default=0)
        return most * (1 + len(self._stems) + len(self._endings))

    def matches(self, text: Sequence[Word]) -> Iterator[Match]:
        """Every phrase at every place; a phrase never crosses a sentence."""
        for at, word in enumerate(text):
            for phrase, rest in self.candidates(word.text):
                last = at + len(rest)
                if (
                    last < len(text)
                    and text[last].sentence == word.sentence
                    and all(_fits(step, text[at + 1 + n].text) for n, step in enumerate(rest))
                ):
                    yield Match(phrase, at, last)

    def candidates(self, word: str) -> Iterator[tuple[str, tuple[frozenset[str], ...]]]:
        """The phrases that a word may begin, each with the steps that must follow."""
        yield from self._heads.get(word, ())
        for length in self._stems:
            if length <= len(word):
                yield from self._heads.get(word[:length] + "*", ())
        for length in self._endings:
            if length < len(word):
                yield from self._heads.get("*" + word[-length:], ())


def _step(step: str) -> frozenset[str]:
    choices = [choice if "*" in choice else singular(choice) for choice in step.split("|")]
    for choice in choices:
        if "*" in choice.strip("*") or ("*" in choice and len(choice) <= MIN_PREFIX):
            raise ValueError(f"`*` stands at one end of at least {MIN_PREFIX} letters: {step!r}")
    return frozenset(choices)


def _fits(step: frozenset[str], word: str) -> bool:
    return word in step or "_" in step or any(_open_fits(choice, word) for choice in step if "*" in choice)


def _open_fits(choice: str, word: str) -> bool:
    return word.startswith(choice[:-1]) if choice.endswith("*") else word.endswith(choice[1:])
