"""The section `study`: one question, the arms that answer it, and how they are compared."""

from typing import Annotated

from pydantic import Field, JsonValue, field_validator

from udt_cluster.config.data import DataConfig
from udt_cluster.config.section import Section
from udt_cluster.config.tune import Space


class StudyConfig(Section):
    """A study: every arm is trained on the same folds and seeds and scored case by case; test cases stay unseen.

    Folds and seeds are those of `repeat`, metrics those of `evaluate`, the first of which decides.
    """

    question: Annotated[str, Field(min_length=10, max_length=300)]
    """One sentence, as the report will ask it."""
    arms: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Configurations by name, each what it changes in the job (`plain: {model.architecture: unet}`, `as it is: {}`)."""
    vary: dict[str, Space] = Field(default_factory=dict)
    """Further arms: every combination of these values, named by them (`model.num_heads: {choice: [1, 2, 4]}`)."""
    datasets: dict[str, DataConfig] = Field(default_factory=dict)
    """Further data sets by name, each a section like `data`; every arm is trained and scored on each of them, too."""
    reference: str
    """The arm that the others are compared with."""
    comparisons: tuple[tuple[str, str], ...] = ()
    """Pairs of arms to compare instead, `[[a, b], [a, c]]`."""
    margin: Annotated[float, Field(gt=0)] | None = None
    """Smallest difference of the deciding metric that matters to you."""
    constraints: tuple[str, ...] = ()
    """As those of `tune`: combinations of `vary` that do not meet them are no arms."""

    @field_validator("question")
    @classmethod
    def _asks(cls, question: str) -> str:
        if not question.strip().endswith("?"):
            raise ValueError("a question ends with a question mark")
        return question.strip()
