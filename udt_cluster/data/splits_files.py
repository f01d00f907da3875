"""Splits that somebody else made: nnU-Net's `splits_final.json`, or a file of ours."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from udt_cluster.config.data import SplitsConfig
from udt_cluster.data.splits_schemes import Assignment, Fold, Pool, did_you_mean
from udt_cluster.errors import DataError
from udt_cluster.storage import Location

_FORMS = (
    'nnU-Net\'s [{"train": [ids], "val": [ids]}, ...] or {"folds": [{"train": [ids], "validation": [ids]}, ...], '
    '"test": [ids]}'
)
_LISTED = 200
_HINTED = 20


def folds_from_file(pool: Pool, config: SplitsConfig) -> Assignment:
    """Folds as a file names them; its `test` cases join the official ones.

    Raises:
        DataError: there is no such file, it has another form, or names what the data set does not have; ``problems``
            lists everything.
    """
    assert config.file is not None
    where = f"data.splits.file={config.file}"
    folds, test = _named(config.file, where)
    index = {case_id: case for case, case_id in enumerate(pool.cases.ids)}
    problems = _unknown([*test, *(name for fold in folds for side in fold for name in side)], index)
    if problems:
        raise DataError(f"{where}: names that are no cases of the data set", problems)
    tests = {*pool.test, *(index[name] for name in test)}
    problems = [problem for number, fold in enumerate(folds) for problem in _wrong(number, fold, pool, tests, index)]
    if problems:
        raise DataError(f"{where}: these folds cannot be trained", problems[:_LISTED])
    sides = [tuple(_ordered(pool, [index[name] for name in side]) for side in fold) for fold in folds]
    made = tuple(Fold(train=train, validation=validation) for train, validation in sides)
    used = tests.union(*(set(fold.train) | set(fold.validation) for fold in made))
    unused = len(pool.cases.ids) - len(used)
    warning = f"data.splits.file does not name {unused} of {len(pool.cases.ids)} cases: they are in no fold"
    return Assignment(folds=made, test=_ordered(pool, tests), warnings=(warning,) if unused else ())


def _named(uri: str, where: str) -> tuple[list[tuple[list[str], list[str]]], list[str]]:
    try:
        content = json.loads(Location.parse(uri).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{where}: there is no such file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}); expected {_FORMS}") from error
    rows = content.get("folds") if isinstance(content, dict) else content
    test = content.get("test", []) if isinstance(content, dict) else []
    if not isinstance(rows, list) or not rows or not _are_names(test):
        raise DataError(f"{where} has another form; expected {_FORMS}")
    folds = [_sides(row) for row in rows]
    if broken := [f"fold {number}" for number, fold in enumerate(folds) if fold is None]:
        raise DataError(f"{where} has another form; expected {_FORMS}", broken)
    return [fold for fold in folds if fold is not None], test


def _sides(row: Any) -> tuple[list[str], list[str]] | None:
    if not isinstance(row, dict):
        return None
    train, validation = row.get("train"), row.get("validation", row.get("val"))
    return (train, validation) if _are_names(train) and _are_names(validation) else None


def _are_names(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _unknown(names: Sequence[str], index: Mapping[str, int]) -> list[str]:
    missing = sorted(set(names) - index.keys())
    known = list(index)
    problems = [f"{name!r}{did_you_mean(name, known)}" for name in missing[:_HINTED]]
    problems += [repr(name) for name in missing[_HINTED:_LISTED]]
    return problems + ([f"and {len(missing) - _LISTED} more"] if len(missing) > _LISTED else [])


def _wrong(
    number: int, fold: tuple[list[str], list[str]], pool: Pool, tests: set[int], index: Mapping[str, int]
) -> list[str]:
    train, validation = (set(side) for side in fold)
    named = zip(("train", "validation"), (train, validation), strict=True)
    return [
        *(f"fold {number}: {side} is empty" for side, names in named if not names),
        *(f"fold {number}: {name} is in train and in validation" for name in sorted(train & validation)),
        *(f"fold {number}: {name} is a test case" for name in sorted(train | validation) if index[name] in tests),
    ]


def _ordered(pool: Pool, members: Sequence[int] | set[int]) -> tuple[int, ...]:
    return tuple(sorted(set(members), key=lambda case: pool.cases.ids[case]))
