"""Between the names of a source and a store: pseudonyms, or a look at whether the names tell who somebody is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from data_prep.alike import alike
from data_prep.case import Discovery
from data_prep.privacy.ids import suspicious_ids
from data_prep.privacy.pseudonyms import Pseudonyms
from udt_cluster.errors import DataError

_SHOWN = 20


def privacy_gate(*, home: Path, dataset: str, pseudonymize: bool, upload: bool) -> Callable[[Discovery], Discovery]:
    """A function for `prepare(..., rename=)`.

    Args:
        home: `UDT_HOME` of the process that prepares; key and table of the pseudonyms lie there.
        dataset: Name of the data set.
        pseudonymize: `data.pseudonymize`.
        upload: Whether the store leaves this machine; then names that look like a person's are refused. Elsewhere they
            are warned about.
    """
    if pseudonymize:
        names = Pseudonyms.open(home, dataset)
        return lambda discovery: _warned(names.apply(discovery), _doubts(discovery, names.of))
    return lambda discovery: _warned(_looked_at(discovery, upload=upload), _doubts(discovery, str))


def _warned(discovery: Discovery, warnings: tuple[str, ...]) -> Discovery:
    return replace(discovery, warnings=(*discovery.warnings, *warnings))


def _doubts(discovery: Discovery, shown: Callable[[str], str]) -> tuple[str, ...]:
    """Warnings where two names may well be one: folds may then leak."""
    ids = alike(case.id for case in discovery.cases)
    groups = [found for found in alike(case.group for case in discovery.cases) if found not in ids]
    return tuple(
        f"{len(found)} times {kind} differ only in capitals or in the Unicode form of a letter, for example "
        f"{' and '.join(map(shown, found[0]))}; they are kept apart; if they are one, folds leak. Rename all but one."
        for kind, found in (("ids of cases", ids), ("patients (groups)", groups))
        if found
    )


def _looked_at(discovery: Discovery, *, upload: bool) -> Discovery:
    """The same discovery, with a warning about its names.

    Raises:
        DataError: some look like a person's, and they are about to leave this machine.
    """
    cases = (*discovery.cases, *(entry.case for entry in discovery.left_out))
    names = sorted({name for case in cases for name in (case.id, case.group, case.site)})
    found = suspicious_ids(names)
    if not found:
        return discovery
    count = f"{len(found)} case ids, groups or sites look as if they told who somebody is"
    if upload:
        listed = [f"{suspicion.id}: {suspicion.reason}" for suspicion in found[:_SHOWN]]
        raise DataError(
            f"{count}; they would be uploaded. Set data.pseudonymize: true (the table that leads back stays here), or "
            "rename the files",
            [*listed, *([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])],
        )
    warning = f"{count}, for example {found[0].id}; data.pseudonymize: true replaces them. An upload is refused."
    return replace(discovery, warnings=(*discovery.warnings, warning))
