"""What a data set is like, in numbers and pictures: classes, sizes, values."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_prep.check.survey import Survey


@dataclass(frozen=True, kw_only=True)
class ClassShare:
    """How much of a data set a class is: pixels in training, validation and test cases, and cases that have it."""

    name: str
    pixels: Mapping[str, int]
    cases: int


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """Values of one channel at sample size, over all cases."""

    minimum: float
    low: float
    mean: float
    high: float
    maximum: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the data set is like.

    Attributes:
        classes: The background first.
        sizes: "height x width" of images -> slices.
        depths: Slices of a case -> cases.
        splits: The data set's own -> cases.
        sites: Site -> cases; empty where none is known.
        channels: Number of channels -> cases.
        dtypes: Type of values -> cases.
        spacings: "D x H x W" in mm -> cases.
        intensities: Of each channel; `low` and `high` are the 0.5th and 99.5th percentile.
    """

    classes: tuple[ClassShare, ...] = ()
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    depths: Mapping[int, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    sites: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[int, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    spacings: Mapping[str, int] = field(default_factory=dict)
    intensities: tuple[Intensity, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        plain = {name: value for name, value in vars(self).items() if name not in ("classes", "sizes", "intensities")}
        return {
            "classes": [{**vars(share), "pixels": dict(share.pixels)} for share in self.classes],
            "sizes": {f"{height}x{width}": count for (height, width), count in self.sizes.items()},
            "intensities": [dict(vars(channel)) for channel in self.intensities],
            **{name: {str(key): count for key, count in value.items()} for name, value in plain.items()},
        }


def facts_of(survey: Survey) -> Facts:
    """Numbers of a survey, in the order in which people want them."""
    classes = tuple(
        ClassShare(
            name=name,
            pixels={split: int(counts[index]) for split, counts in sorted(survey.class_pixels.items())},
            cases=survey.class_cases[index],
        )
        for index, name in enumerate(survey.class_names)
    )
    intensities = tuple(
        Intensity(
            minimum=channel.minimum,
            low=channel.percentile(0.5),
            mean=channel.mean,
            high=channel.percentile(99.5),
            maximum=channel.maximum,
            std=(channel.squares / channel.count) ** 0.5,
        )
        for channel in survey.intensities()
    )
    return Facts(
        classes=classes,
        sizes=dict(sorted(survey.sizes.items())),
        depths=dict(sorted(survey.depths.items())),
        splits=dict(sorted(Counter(case.split for case in survey.good).items())),
        sites=dict(sorted(Counter(case.site for case in survey.good if case.site).items())),
        channels={number: tally.count for number, tally in sorted(survey.channels.items())},
        dtypes=dict(sorted(survey.dtypes.items())),
        spacings=dict(survey.spacings.most_common(20)),
        intensities=intensities,
    )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A case as it is, for the eye: its id and a PNG."""

    case: str
    picture: bytes = field(repr=False)
