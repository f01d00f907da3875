"""A soak on test hosts: `python -m tests.soak --minutes 120 --every 90 --seed 1`. Needs root; see tests/hosts."""

import argparse
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tests.hosts.client import command_line
from tests.hosts.lab import Lab
from tests.hosts.network import Network, hosts_are_missing
from tests.soak.soak import Soak


def main() -> int:
    """Run it; 0 when nothing was lost and nothing is left."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120, help="how long faults happen")
    parser.add_argument("--every", type=float, default=90, help="seconds from one fault to the next")
    parser.add_argument("--seed", type=int, default=1, help="of their order and where they strike")
    parser.add_argument("--output", type=Path, default=Path("runs/soak"), help="folder for soak.md and soak.json")
    options = parser.parse_args()
    if reason := hosts_are_missing():
        print(reason, file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="udt-soak-", dir="/tmp"))
    with Network(folder) as network, closing(Lab(network, redis=True, proxied=True, disk="1g")) as lab:
        try:
            report = Soak(lab, command_line(lab), options.minutes, options.every, options.seed).run()
        finally:
            lab.keep_logs(options.output / "logs")
    report.write(options.output)
    print(report.markdown())
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
