"""``python -m tests.compliance``: the Autobahn test suite against both roles on every loop.

Groups 1 to 10, which are RFC 6455, and some cases of 12 and 13, which are RFC 7692; with ``--full`` all of
those, too.
Exit status: 0 when every case passed, 1 when one did not or the suite could not be run, 2 when this machine
has no Python 2.7 to run it with.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from . import report, suite, targets


def main(arguments: Sequence[str]) -> int:
    """Run the targets asked for, print what came out, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.compliance", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=targets.TARGETS, default=targets.TARGETS, metavar="TARGET"
    )
    parser.add_argument("--full", action="store_true", help="all of groups 12 and 13: ten minutes a target")
    options = parser.parse_args(arguments)
    selection = targets.FULL if options.full else targets.USUAL
    try:
        suite.set_up()
    except suite.NoPython27 as error:
        print(error, file=sys.stderr)
        return 2
    except suite.SetupError as error:
        print(error, file=sys.stderr)
        return 1
    reports = []
    for target in options.only:
        print(f"Running {selection.case_count} cases against {target}", file=sys.stderr, flush=True)
        reports.append(targets.run(target, selection))
    print(report.table(reports))
    for complaint in (line for each in reports for line in each.complaints):
        print(complaint)
    print(f"The suite's own reports are in {targets.REPORTS.relative_to(suite.ROOT)}/")
    print(report.summary(reports))
    return 0 if report.is_success(reports) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    sys.exit(main(sys.argv[1:]))
