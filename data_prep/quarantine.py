"""Cases that cannot be prepared: what is wrong with each, in words that may be stored."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from data_prep.case import BadCase, Case, CaseSummary

_LONGEST = 200


def describe(bad: BadCase) -> str:
    """All problems, in at most 200 characters and without the names of files: what is stored may not name them."""
    text = "; ".join(bad.problems).removeprefix(f"{bad.case.id}: ")
    words: dict[str, str] = {}
    for kind, keys in (("label", bad.case.labels), ("image", bad.case.images)):
        for number, key in enumerate(keys, start=1):
            words[key] = words[key.rpartition("/")[2]] = f"the {kind}" if len(keys) == 1 else f"{kind} {number}"
    folders = {str(folder) for key in words for folder in PurePosixPath(key).parents}
    words = {**{folder: "its folder" for folder in folders if "/" in folder}, **words}
    pattern = "|".join(re.escape(name) for name in sorted(words, key=len, reverse=True))
    text = re.sub(pattern, lambda found: words[found[0]], text) if words else text
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def left_out(bad: Sequence[BadCase]) -> list[str]:
    """A warning for each."""
    return [f"case {entry.case.id} is left out: {describe(entry)}" for entry in bad]


def mixed_channels(summaries: Sequence[CaseSummary], cases: Mapping[str, Case]) -> tuple[int, list[BadCase]]:
    """How many channels most cases have, and the cases that have another number."""
    counts = Counter(case.channels for case in summaries)
    usual = max(sorted(counts), key=lambda channels: counts[channels], default=0)
    odd = [
        BadCase(
            cases[case.id],
            (f"{case.id}: {case.channels} channel(s), where most cases have {usual}; make all grey, or all RGB",),
        )
        for case in summaries
        if case.channels != usual
    ]
    return usual, odd
