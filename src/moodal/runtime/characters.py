"""Which text is usual: a character n-gram model with Witten-Bell smoothing.

    p(c | h) = (count(h c) + escape(h) p(c | h')) / (count(h) + escape(h))

h' is h without its first character; escape(h) is the number of different characters that followed
h. It is the least machinery that is sound: it needs no discounts fitted, and an n-gram that is left
out of the model only adds its count to escape(h), so that the sum over c stays one.
Source: Witten and Bell, The zero-frequency problem (IEEE Trans. Inf. Theory 1991), method C;
interpolated as in Chen and Goodman, An empirical study of smoothing techniques (1998), section 2.4.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from moodal.errors import ConfigError, DataError, ModelError

EDGE = "\n"
"""What stands before a text's first character and after its last; no text holds it."""
UNKNOWN = "\ufffd"
"""Any character that was not in the texts. Source: Unicode, U+FFFD REPLACEMENT CHARACTER."""
ORDER = 5
MAX_ORDER = 12
"""Less than ctc.LOOK_BACK, so that a beam's context that was cut is not taken for a beginning."""
MAX_NGRAMS = 200_000
"""Kept in a model: about 2 MB of JSON."""
MAX_READ = 5_000_000
"""Characters read of the texts; 2,000 pages, far more than 200,000 n-grams can hold."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Followers:
    """What came after one context.

    counts: next character -> how often. escape: how much weight the shorter context has.
    """

    counts: Mapping[str, int]
    escape: int
    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.counts.values()) + self.escape)


@dataclass(frozen=True, slots=True)
class CharacterModel:
    """contexts: up to order - 1 characters -> Followers; "" is always there.

    characters: those known, EDGE and UNKNOWN not among them.
    """

    order: int
    characters: frozenset[str]
    contexts: Mapping[str, Followers]

    @staticmethod
    def fit(
        texts: Iterable[str],
        *,
        order: int = ORDER,
        min_count: int = 2,
        max_ngrams: int = MAX_NGRAMS,
    ) -> CharacterModel:
        """order: characters of the longest n-gram, 1 to MAX_ORDER. min_count: an n-gram of two or
        more characters seen less often is left out. max_ngrams: the most frequent ones are kept.

        Raises: ConfigError for another order; DataError when the texts hold nothing.
        """
        if not 1 <= order <= MAX_ORDER:
            raise ConfigError(f"order={order}: an n-gram has 1 to {MAX_ORDER} characters")
        seen = _count(texts, order)
        characters = frozenset(ngram for ngram in seen if len(ngram) == 1 and ngram != EDGE)
        if not characters:
            raise DataError("the texts are empty; a language model needs at least one character")
        kept = [ngram for ngram, n in seen.items() if len(ngram) == 1 or n >= min_count]
        # The shorter before the longer, so that every single character stays.
        kept.sort(key=lambda ngram: (len(ngram) > 1, -seen[ngram], ngram))
        keep = frozenset(kept[: max(max_ngrams, len(characters) + 1)])
        return CharacterModel(order, characters, _contexts(seen, keep))

    def log_probability(self, context: str, character: str) -> float:
        """The natural log of how probable a character is after a context; never -inf.

        context: the text so far, from its beginning. character: one, or EDGE = the text ends here;
        one that is not known is taken for UNKNOWN. Over known, EDGE and UNKNOWN they add up to 1.
        """
        probability = 1.0 / (len(self.characters) + 2)
        wanted = self._known(character)
        recent = "".join(map(self._known, self._recent(context)))
        for length in range(len(recent) + 1):
            followers = self.contexts.get(recent[len(recent) - length :])
            if followers is not None:
                count = followers.counts.get(wanted, 0)
                probability = (count + followers.escape * probability) / followers.total
        return math.log(probability)

    def over(self, labels: Sequence[str]) -> Callable[[tuple[int, ...], int], float]:
        """The model as ctc.prefix_beam asks it: by codes, 0 = the end.

        labels: (C,) the character of each code. Answers are kept, since a beam asks the same often.
        """
        known: dict[tuple[tuple[int, ...], int], float] = {}

        def log_probability(before: tuple[int, ...], code: int) -> float:
            asked = before[-self.order :], code
            if asked not in known:
                context = "".join(labels[symbol] for symbol in asked[0])
                known[asked] = self.log_probability(context, labels[code] if code else EDGE)
            return known[asked]

        return log_probability

    def to_bytes(self) -> bytes:
        """JSON; the same model gives the same bytes."""
        contexts = {
            context: [followers.escape, dict(sorted(followers.counts.items()))]
            for context, followers in sorted(self.contexts.items())
        }
        held = {
            "format": FORMAT,
            "order": self.order,
            "characters": "".join(sorted(self.characters)),
            "contexts": contexts,
        }
        return json.dumps(held, separators=(",", ":")).encode("ascii")

    @staticmethod
    def parse(data: bytes) -> CharacterModel:
        """Raises: ModelError for anything but what to_bytes gives."""
        try:
            held = json.loads(data)
            if held["format"] != FORMAT:
                raise ModelError(
                    f"the language model is of format {held['format']!r}, this version reads "
                    f"{FORMAT}; train the model again, or install the version that made it"
                )
            contexts = {
                context: Followers(_counts(counts), _count_of(escape))
                for context, (escape, counts) in held["contexts"].items()
            }
            return CharacterModel(_count_of(held["order"]), frozenset(held["characters"]), contexts)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"the language model cannot be read ({error!r}); copy the model anew"
            ) from error

    def _recent(self, context: str) -> str:
        if self.order == 1:
            return ""
        return (EDGE + context)[1 - self.order :]

    def _known(self, character: str) -> str:
        return character if character in self.characters or character == EDGE else UNKNOWN


def _count(texts: Iterable[str], order: int) -> Counter[str]:
    """Every n-gram of 1 to `order` characters that ends in a text or at its end."""
    seen: Counter[str] = Counter()
    left = MAX_READ
    for text in texts:
        if left <= 0:
            break
        clean = " ".join(text[:left].split()).replace(UNKNOWN, "")
        left -= len(text)
        if clean:
            whole = f"{EDGE}{clean}{EDGE}"
            for length in range(1, order + 1):
                # An n-gram ends after the first edge; a beginning of the text is a context of it.
                first = 1 if length == 1 else 0
                seen.update(whole[i : i + length] for i in range(first, len(whole) - length + 1))
    return seen


def _contexts(seen: Mapping[str, int], keep: frozenset[str]) -> dict[str, Followers]:
    counts: dict[str, dict[str, int]] = {}
    escapes: Counter[str] = Counter()
    for ngram, n in seen.items():
        context, character = ngram[:-1], ngram[-1]
        escapes[context] += 1
        if ngram in keep:
            counts.setdefault(context, {})[character] = n
        else:
            escapes[context] += n
    return {context: Followers(kept, escapes[context]) for context, kept in counts.items()}


def _counts(held: Mapping[str, object]) -> dict[str, int]:
    return {character: _count_of(n) for character, n in held.items()}


def _count_of(held: object) -> int:
    if not isinstance(held, int) or held < 1:
        raise ValueError(f"{held!r} is not a count from 1")
    return held
