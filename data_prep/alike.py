"""Names that differ only in what people and file systems do not see: capitals, and how Unicode writes a letter."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more different names that are one after Unicode case folding, composed (NFC); sorted."""
    folded: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        folded[unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())].append(name)
    return [tuple(group) for group in folded.values() if len(group) > 1]
