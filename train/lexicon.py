"""Which phonemes words take inside sentences, counted on espeak's reading of a corpus.

espeak joins some words ("of the" -> "ʌvðə") and changes others by what follows. Sentence and
phonemes are aligned word by word; a form that a word or phrase takes most of the time enters the
lexicon.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from ..slm.letters import MAX_PHRASE, context_of, link

MARKS = r'[;:,.!?—…"()]+'
_STRESS = str.maketrans("", "", "ˈˌː")


def clauses_of(text: str) -> list[list[str]]:
    """The words between punctuation marks, in lower case; a hyphen is kept inside its word."""
    return [re.findall(r"[a-z'-]*[a-z][a-z'-]*", part) for part in re.split(MARKS, text.lower())]


def phoneme_clauses_of(phonemes: str) -> list[list[str]]:
    """The phoneme words between punctuation marks."""
    return [part.split() for part in re.split(MARKS, phonemes)]


@lru_cache(maxsize=1 << 18)
def distance(first: str, second: str) -> int:
    """Levenshtein distance of two phoneme strings."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def align_words(
    words: Sequence[str], spoken: Sequence[str], isolated: Callable[[str], str]
) -> list[tuple[tuple[str, ...], str]]:
    """Which words each phoneme word speaks: the grouping nearest to the words' isolated forms.

    Args:
        words: n words of a clause.
        spoken: m <= n phoneme words; each speaks one to `MAX_PHRASE` words.
        isolated: Phonemes of a word alone.

    Returns:
        m pairs of words and phonemes; empty where no grouping fits.
    """
    if len(words) == len(spoken):
        return [((word,), phonemes) for word, phonemes in zip(words, spoken, strict=True)]
    best: dict[tuple[int, int], tuple[int, int]] = {(0, 0): (0, 0)}  # (words, spoken) -> cost, size
    for j, phonemes in enumerate(spoken, 1):
        bare = phonemes.translate(_STRESS)
        for i in range(j, len(words) - (len(spoken) - j) + 1):
            options = [
                (best[i - size, j - 1][0] + distance(
                    "".join(isolated(w) for w in words[i - size : i]).translate(_STRESS), bare
                ), size)
                for size in range(1, MAX_PHRASE + 1)
                if (i - size, j - 1) in best
            ]  # fmt: skip
            if options:
                best[i, j] = min(options)
    pairs: list[tuple[tuple[str, ...], str]] = []
    i, j = len(words), len(spoken)
    while j and (i, j) in best:
        size = best[i, j][1]
        pairs.append((tuple(words[i - size : i]), spoken[j - 1]))
        i, j = i - size, j - 1
    return pairs[::-1] if (i, j) == (0, 0) else []


def count_forms(
    sentences: Iterable[tuple[str, str]], isolated: Callable[[str], str]
) -> tuple[dict[str, list[Counter[str]]], Counter[str]]:
    """Count the forms of words and joined phrases by what follows, and all word sequences.

    Args:
        sentences: Pairs of text and phonemes.
        isolated: Phonemes of a word alone.

    Returns:
        Forms by word or phrase and context (`slm.letters.context_of`), and how often each sequence
        of two to `MAX_PHRASE` words occurs, joined or not.
    """
    forms: dict[str, list[Counter[str]]] = defaultdict(lambda: [Counter(), Counter(), Counter()])
    sequences: Counter[str] = Counter()
    for text, phonemes in sentences:
        clauses, spoken = clauses_of(text), phoneme_clauses_of(phonemes)
        if len(clauses) != len(spoken):
            continue
        for words, sounds in zip(clauses, spoken, strict=True):
            if not 0 < len(sounds) <= len(words) <= 30:
                continue
            for size in range(2, MAX_PHRASE + 1):
                sequences.update(
                    " ".join(words[i : i + size]) for i in range(len(words) - size + 1)
                )
            pairs = align_words(words, sounds, isolated)
            for index, (group, form) in enumerate(pairs):
                following = pairs[index + 1][1] if index + 1 < len(pairs) else None
                forms[" ".join(group)][context_of(following)][form] += 1
    return forms, sequences


def build_lexicon(
    sentences: Iterable[tuple[str, str]],
    isolated: Callable[[str], str],
    read: Callable[[list[str]], list[str]],
    min_count: int,
) -> dict[str, list[str]]:
    """The entries that correct the letter model where it matters.

    Args:
        sentences: Pairs of text and phonemes.
        isolated: Phonemes of a word alone, for the alignment.
        read: The letter model: words to phonemes.
        min_count: How often a word or a joined phrase must occur.

    Returns:
        For each word whose usual form the model misses, and each phrase that is mostly joined, its
        forms before a vowel, before a consonant and at the end; one form where all are the same.
    """
    forms, sequences = count_forms(sentences, isolated)
    lexicon: dict[str, list[str]] = {}
    words = [
        key for key, counts in forms.items() if " " not in key and "-" not in key and len(key) > 1
    ]
    frequent = [word for word in words if sum(c.total() for c in forms[word]) >= min_count]
    guessed = dict(zip(frequent, read(frequent), strict=True))
    for key in [*frequent, "a", "i", *(key for key in forms if " " in key)]:
        total = sum(counter.total() for counter in forms[key])
        if total < min_count or (" " in key and total * 2 <= sequences[key]):
            continue
        overall = sum(forms[key], Counter()).most_common(1)[0][0]
        usual = [c.most_common(1)[0][0] if c.total() >= 3 else overall for c in forms[key]]
        beside = ("a", "b", None)  # any vowel, any consonant, nothing
        if usual != [link(guessed.get(key, ""), sound) for sound in beside]:
            lexicon[key] = usual if len(set(usual)) > 1 else usual[:1]
    return dict(sorted(lexicon.items()))
