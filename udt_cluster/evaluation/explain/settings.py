"""What is asked of an explanation, beside the model and the cases."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """How to look at a model.

    Attributes:
        class_name: The object whose attention is drawn; by default the one that covers most of each picture.
        at: Instead of an object, a place: row and column as shares of the image's height and width, 0 to 1.
        pictures: How many cases are drawn: the worst, the best, and what lies between.
        batch_size: Samples per forward pass.
        seed: Of which case stands in for which when skips are shuffled.
    """

    class_name: str | None = None
    at: tuple[float, float] | None = None
    pictures: int = 3
    batch_size: int = 8
    seed: int = 0
