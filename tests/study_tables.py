"""Generated scores of studies: patients that differ in difficulty, arms with effects, noise of folds and seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from udt_cluster.studies import ScoreRow, ScoreTable


def generated(
    effects: Mapping[str, float],
    *,
    groups: int = 40,
    cases_per_group: int = 1,
    folds: int = 5,
    seeds: int = 1,
    classes: Sequence[str] = ("gland",),
    dataset: str = "GlaS",
    spread: float = 0.02,
    seed_noise: float = 0.0,
    effect_spread: float = 0.0,
    seed: int = 0,
) -> list[ScoreRow]:
    """Scores of every arm: 0.8 + patient + effect + training noise + rest; HD95 falls where Dice rises.

    Args:
        effects: Mean Dice of each arm above the base.
        groups: Patients.
        cases_per_group: Images of each.
        folds: Patients are dealt to them in turn.
        seeds: Trainings of each fold.
        classes: Names.
        dataset: Name.
        spread: Standard deviation of what is left, per score.
        seed_noise: Standard deviation of what a training adds to all its cases.
        effect_spread: How much the effect differs between patients.
        seed: Of the generator.
    """
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 0.06, (groups, len(classes)))
    rows = []
    for arm, effect in effects.items():
        trained = generator.normal(0, seed_noise, (folds, seeds)) if seed_noise else np.zeros((folds, seeds))
        of_patient = effect + generator.normal(0, 1, groups) * effect_spread
        rest = generator.normal(0, spread, (groups, cases_per_group, seeds, len(classes)))
        for group, case, number, kind in np.ndindex(*rest.shape):
            fold = group % folds
            shift = of_patient[group] + trained[fold, number] + rest[group, case, number, kind]
            dice = float(np.clip(0.8 + difficulty[group, kind] + shift, 0, 1))
            rows.append(
                ScoreRow(
                    dataset=dataset,
                    arm=arm,
                    fold=fold,
                    seed=number,
                    case=f"case {group:03d}-{case}",
                    group=f"patient {group:03d}",
                    class_index=kind + 1,
                    class_name=classes[kind],
                    values={"dice": dice, "iou": dice / (2 - dice), "hd95": 40 * (1 - dice)},
                    unit="mm",
                )
            )
    return rows


def table(effects: Mapping[str, float], **options: object) -> ScoreTable:
    """:func:`generated` as a table."""
    return ScoreTable(tuple(generated(effects, **options)))  # type: ignore[arg-type]
