"""`python -m data_prep.phantom acdc FOLDER --patients 8`, or `... glas FOLDER --train 24 --test 8`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.phantom import acdc, glas
from data_prep.phantom.drawing import SCALES


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a phantom data set; 0 when it is done, 2 when the command line is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if options.kind == "acdc":
            acdc(
                options.folder,
                patients=options.patients,
                test_patients=options.test_patients,
                seed=options.seed,
                scale=options.scale,
                side=options.side,
            )
        else:
            size = (options.side, options.side * 3 // 2)
            glas(
                options.folder,
                train=options.train,
                test=options.test,
                seed=options.seed,
                scale=options.scale,
                size=size,
            )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"synthetic {options.kind} data in {options.folder} (see README.txt there)\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep.phantom", description="Write a synthetic data set.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    cardiac = kinds.add_parser("acdc", help="cardiac-like NIfTI volumes in the layout of ACDC")
    cardiac.add_argument("--patients", type=int, default=8, help="patients in training/ (default 8)")
    cardiac.add_argument("--test-patients", type=int, default=0, help="patients in testing/ (default 0)")
    glands = kinds.add_parser("glas", help="gland-like H&E-coloured PNG in the released layout of GlaS")
    glands.add_argument("--train", type=int, default=24, help="training images (default 24)")
    glands.add_argument("--test", type=int, default=8, help="test images (default 8)")
    for kind, side in ((cardiac, 128), (glands, 174)):
        kind.add_argument("folder", type=Path)
        kind.add_argument("--seed", type=int, default=0)
        kind.add_argument("--scale", default="mixed", help=f"of the objects: {', '.join(SCALES)}, or a factor")
        kind.add_argument("--side", type=int, default=side, help=f"height in pixels (default {side})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
