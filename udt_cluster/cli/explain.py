"""The verb that takes a trained model's skips away, one by one: explain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from udt_cluster.cli.options import AsJson, TargetName
from udt_cluster.cli.output import coloured, number, say, show_json, show_table
from udt_cluster.errors import UsageError

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME@alias, NAME, models:/NAME/3, or the folder of a model.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="STORE",
        help="Other data: a URI, or DATASET/VERSION. Default: those of its training.",
        show_default=False,
    ),
]
Cases = Annotated[
    int | None,
    typer.Option("--cases", min=1, metavar="N", help="No more than N cases. Default: all.", show_default=False),
]
Test = Annotated[bool, typer.Option("--test", help="The data set's own test cases instead.")]
ClassName = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="Whose attention is drawn. Default: the largest object of each picture.",
        show_default=False,
    ),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="ROW,COLUMN",
        help="Draw the attention of this place instead; shares of height and width, such as 0.5,0.25.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FOLDER", help="A new folder. Default: explain-MODEL.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(explain)


def explain(
    model: ModelName,
    data: Data = None,
    cases: Cases = None,
    test: Test = False,
    class_name: ClassName = None,
    at: Place = None,
    output: Output = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show what each skip of a trained model is for.

    In this process, without any training: the Dice that each case loses when a skip is zeroed or taken from another
    case, how alike encoder and decoder are (CKA), which channels pass, and where attention looks. On the cases that
    the model's fold held out; with tables, pictures and a page, which go to the model's MLflow run too.
    """
    from udt_cluster.cluster.client.explaining import ExplainRequest, explain_model
    from udt_cluster.cluster.client.targets import current_target
    from udt_cluster.evaluation.explain import ExplainSettings

    request = ExplainRequest(model=model, output=output, data=data, cases=cases, test=test)
    settings = ExplainSettings(class_name=class_name, at=_place(at))
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output}: something lies there already; give a new folder")
    found = explain_model(current_target(target), request, settings=settings, on_event=say)
    if as_json:
        show_json(found)
        return
    _show(found)


def _place(text: str | None) -> tuple[float, float] | None:
    """What --at says.

    Raises:
        UsageError: not two numbers from 0 to 1.
    """
    if text is None:
        return None
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--at {text}: two numbers are needed, ROW,COLUMN, such as 0.5,0.25") from None
    if not (0 <= row <= 1 and 0 <= column <= 1):
        raise UsageError(f"--at {text}: both are shares of the image, from 0 to 1")
    return row, column


def _show(found: Mapping[str, Any]) -> None:
    levels = list(dict.fromkeys(row["level"] for row in found["effects"]))
    if levels:
        columns = ["LEVEL", "SKIP", "DICE", "ZEROED", "LOST", "95 %", "SHUFFLED", "LOST", "95 %", "CKA E-U", "CKA S-U"]
        show_table(columns, [_row(found, level) for level in levels])
    for warning in found["warnings"]:
        say(f"{coloured('warning:', 'yellow', err=True)} {warning}")
    say(f"The page: {found['page']}")
    if found["run_url"]:
        say(f"Logged to {found['run_url']}")
    else:
        say("Not logged: the model is a folder, not a registered version")


def _row(found: Mapping[str, Any], level: str) -> Sequence[str]:
    of_mean = {row["kind"]: row for row in found["effects"] if row["level"] == level and row["class"] == "mean"}
    similarity = {row["side"]: row["cka"] for row in found["similarity"] if str(row["level"]) == level}
    skip = found["skips"][int(level) - 1] if level.isdigit() else ""
    return (
        level,
        skip,
        number(of_mean["zeroed"]["dice"]),
        *_change(of_mean.get("zeroed")),
        *_change(of_mean.get("shuffled")),
        number(similarity.get("encoder")),
        number(similarity.get("skip")),
    )


def _change(row: Mapping[str, Any] | None) -> Sequence[str]:
    """Dice under a change, how much that is less, and the interval of it."""
    if row is None:
        return "-", "-", "-"
    low, high = row["drop_low"], row["drop_high"]
    ends = "-" if low is None else f"{_signless_zero(low)} .. {_signless_zero(high)}"
    return number(row["dice_changed"]), _signless_zero(row["drop"]), ends


def _signless_zero(value: float) -> str:
    """A difference; one that rounds to nothing is 0.000, not -0.000."""
    return number(value).replace("-0.000", "0.000")
