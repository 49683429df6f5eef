"""``python -m tests.soak``: hundreds of clients of both wires, good and bad, for minutes; then a balance.

They join, leave, emit, ask, reconnect, are cut, reset, half-close, vanish and talk nonsense. Server and
clients are processes of their own, on each runtime in turn. After a warm-up all go and both processes are
counted; then all come again, go, and what is there now must be what was there before.

Exit status: 0 when everything balances, 1 when something does not.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.programs import Program, running

from .balance import Record, Sheet, check_lives, check_registries, check_server, compare_censuses

RUNTIMES = ("asyncio", "uvloop", "trio")
_CROWD_SLACK = 6 * 2**20
"""Bytes; how many clients are busy at once is chance, and a short warm-up may not have seen the most."""
_LAST_WORDS = 120.0
"""Seconds until the last have gone, and until the server has noticed that."""


def main(arguments: Sequence[str]) -> int:
    """Soak each runtime, print what came out, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="all runtimes together; 600")
    parser.add_argument("--clients", type=int, default=500, help="at a time; 500")
    parser.add_argument("--seed", type=int, default=None, help="what they do, as far as that can be decided")
    parser.add_argument("--runtime", nargs="+", choices=RUNTIMES, default=RUNTIMES, metavar="RUNTIME")
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    seconds = options.seconds / len(options.runtime)
    faults = 0
    for runtime in options.runtime:
        print(f"{runtime}: {options.clients} clients for {seconds:g} s, --seed {seed}", flush=True)
        sheet = soak(runtime, seconds, options.clients, seed)
        print("\n".join(sheet.lines))
        for fault in sheet.faults[:50]:
            print(f"  FAULT {fault}")
        print("  balanced" if not sheet.faults else f"  {len(sheet.faults)} faults", flush=True)
        faults += len(sheet.faults)
    return 1 if faults else 0


def soak(runtime: str, seconds: float, clients: int, seed: int) -> Sheet:
    """Soak one runtime for so long."""
    sheet = Sheet()
    warm_up = max(seconds / 4, min(seconds / 2, 15))
    with tempfile.TemporaryDirectory() as folder:
        accounts, lives = Path(folder, "server"), Path(folder, "clients")
        with running("tests.soak.server", runtime, str(accounts)) as server:
            ports = server.read()
            arguments = [runtime, str(lives), str(clients), str(seed), str(ports["ws"]), str(ports["tcp"])]
            with running("tests.soak.clients", *arguments) as crowd:
                crowd.read()
                warm_crowd = come_and_go(crowd, warm_up)
                before = settle(server)
                after_crowd = come_and_go(crowd, seconds - warm_up)
                after = settle(server)
                crowd.end_of_input()
                sys.stderr.write(crowd.wait()[1])
            server.type("end")
            end = server.read()
            sys.stderr.write(server.wait()[1])
        came = ", ".join(f"{count:,} {name}" for name, count in sorted(after_crowd["came"].items()))
        sheet.note(f"came and went: {came}")
        compare_censuses(sheet, "server", before["census"], after["census"])
        compare_censuses(sheet, "clients", warm_crowd["census"], after_crowd["census"], slack=_CROWD_SLACK)
        check_registries(sheet, after["registries"])
        check_server(sheet, after["stats"], after["handled"])
        records = read(lives)
        check_lives(sheet, [each for each in records if each["kind"] == "life"], read(accounts))
    for record in records:
        if record["kind"] == "fault":
            sheet.faults.append(f"{record['name']}: {record['words']}")
    for who, report in (("server", end), ("clients", after_crowd)):
        sheet.demand(
            not report["errors"], f"{who}: {report['errors']} errors were logged: {report['first errors']}"
        )
    return sheet


def come_and_go(crowd: Program, seconds: float) -> Record:
    """Have the clients come and go for so long; return what they report when all have gone."""
    crowd.type(str(seconds))
    return crowd.read(patience=seconds + _LAST_WORDS)


def settle(server: Program) -> Record:
    """Return what the server reports a moment after it has noticed that all have gone, if it ever does."""
    ends_at = time.monotonic() + _LAST_WORDS
    has_noticed = False
    while True:
        server.type("report")
        report = server.read()
        if has_noticed or time.monotonic() > ends_at:
            return report
        has_noticed = not report["registries"]["connections"]
        time.sleep(0.5)


def read(ledger: Path) -> list[Record]:
    """Return what a process has written down."""
    with ledger.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    sys.exit(main(sys.argv[1:]))
