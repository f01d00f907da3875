"""What was written -> what was probably meant: fields for an unknown key, values for a wrong one."""

import difflib
from collections.abc import Sequence

from udt_cluster.config.fields import all_fields, children, field_at
from udt_cluster.config.problems import shown
from udt_cluster.config.synonyms import FIELDS, REMARKS, VALUES


def suggestions(section: str, key: str) -> tuple[str, ...]:
    """Dotted paths that `key`, found in `section`, was probably meant to be; the likeliest first, at most three."""
    word = _normalised(key)
    here = {field.leaf: field.path for field in children(section)}
    if word in here:
        return (here[word],)
    foreign = FIELDS.get(word, ())
    if inside := tuple(path for path in foreign if path.rpartition(".")[0] == section):
        return inside
    if word in all_fields() and all_fields()[word].section is not None:
        return (word,)
    if found := tuple(dict.fromkeys((*foreign, *_named(word))))[:3]:
        return found
    if close := difflib.get_close_matches(word, here, n=1, cutoff=0.7):
        return (here[close[0]],)
    leaves = [field.leaf for field in all_fields().values()]
    if near := difflib.get_close_matches(word, leaves, n=1, cutoff=0.75):
        return _named(near[0])
    near = difflib.get_close_matches(word, FIELDS, n=1, cutoff=0.85)
    return FIELDS[near[0]] if near else ()


def _named(leaf: str) -> tuple[str, ...]:
    """Fields of this name; those of a sweep, which few jobs have, where nothing else has it."""
    found = tuple(path for path, field in all_fields().items() if field.leaf == leaf)
    return tuple(path for path in found if not path.startswith("tune.")) or found


def unknown_key(section: str, key: str, value: object = None) -> str:
    """The message for a key that `section` does not have; `value` is what stands behind it."""
    word, meant = _normalised(key), suggestions(section, key)
    hint = f"did you mean {' or '.join(meant)}?" if meant else ""
    if section and meant == (key,):
        hint = f"`{key}` stands at the top, without indentation"
    if isinstance(value, dict) and meant and (field := field_at(meant[0])) is not None and field.section is None:
        choices = f" (one of {', '.join(field.choices)})" if field.choices else ""
        hint += f" It is a value{choices}, not {shown(value)}{moved(value, meant[0])}"
    remark = REMARKS.get(f"{section}.{word}") or REMARKS.get(word) or hint
    return _sentence(f"unknown key; {remark}" if remark else "unknown key")


def moved(values: dict[str, object], path: str) -> str:
    """For a section where the value `path` belongs: where its keys belong."""
    parent = path.rpartition(".")[0]
    found = []
    for key in values:
        meant = [other for other in suggestions(parent, key) if other.rpartition(".")[0] == parent and other != path]
        if meant and key not in {"name", "type"}:
            found.append(f"{key} is {meant[0]}")
    return f"; {'; '.join(found)}" if found else ""


def allowed_keys(section: str) -> str:
    """A sentence with the keys that `section` has."""
    return f"Allowed {f'in {section}' if section else 'at the top'}: {', '.join(f.leaf for f in children(section))}"


def nearest(found: object, allowed: Sequence[str], path: str = "") -> tuple[str, ...]:
    """The allowed values that were probably meant; none where no one is near, for a wrong guess costs more.

    Near is the same word in other letters, a synonym, a slip of one or two letters, or those that begin so.
    """
    word = _normalised(str(found))
    equal = [value for value in allowed if _normalised(value) == word]
    if equal or not isinstance(found, str | bool | int | float):
        return tuple(equal)
    if isinstance(found, str) and found.partition(" ")[0] in allowed:
        return (found.partition(" ")[0],)
    if (known := VALUES.get(path, {}).get(word)) in allowed and known is not None:
        return (known,)
    slips = [value for value in allowed if _distance(word, _normalised(value)) <= _slips(word)]
    return tuple(slips or [value for value in allowed if len(word) > 1 and _normalised(value).startswith(word)])


def _slips(word: str) -> int:
    """How many wrong letters still leave no doubt."""
    return 0 if len(word) < 3 else 1 if len(word) <= 6 else 2


def _distance(word: str, other: str) -> int:
    """Letters put in, left out, exchanged or swapped with their neighbour (optimal string alignment)."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(word, start=1):
        row = [i]
        for j, wanted in enumerate(other, start=1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != wanted))
            if i > 1 and j > 1 and (letter, word[i - 2]) == (other[j - 2], wanted):
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _normalised(key: str) -> str:
    return key.strip().lower().replace("-", "_").replace(" ", "_")
