"""``python -m fuzz``: the targets one after another, guided by coverage, each for a minute.

It needs atheris, which ``make fuzz`` installs beside everything else. ``python -m fuzz TARGET FILE …`` needs
nothing: it gives the target those inputs, as they were found. Exit status: 0 when nothing was found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

WORK = Path(__file__).parent.parent / ".fuzz"
"""What was found, and by target all inputs that reached something new: the next run begins with them."""
_MAX_SIZE = 4096


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", help="one of them; else all")
    parser.add_argument("files", nargs="*", type=Path, help="inputs for it")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 60")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.guided:
        return _guided(options.target, options.seconds)
    from .targets import TARGETS, run

    if options.target not in (None, *TARGETS):
        parser.error(f"there is no target {options.target!r}; there are {', '.join(TARGETS)}")
    for file in options.files:
        run(options.target, file.read_bytes())
    if options.files:
        return 0
    names = list(TARGETS) if options.target is None else [options.target]
    return max(_fuzz(name, TARGETS[name].seeds, options.seconds) for name in names)


def _fuzz(name: str, seeds: Sequence[bytes], seconds: int) -> int:
    """Run one target in a process of its own, which libFuzzer ends; print how it went."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number:03}").write_bytes(seed)
    command = [sys.executable, "-m", "fuzz", name, "--guided", "--seconds", str(seconds)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = result.stdout.decode(errors="replace")
    done = re.findall(r"stat::number_of_executed_units: *(\d+)", output)
    coverage = re.findall(r"cov: (\d+)", output)
    if result.returncode == 0 and done and coverage:
        print(f"{name}: {int(done[-1]):,} inputs in {seconds} s, {coverage[-1]} branches reached", flush=True)
        return 0
    print(f"{output[-6000:]}\n{name}: failed; what was found is in .fuzz/found-{name}-…", flush=True)
    return 1


def _guided(name: str, seconds: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["stelar_proto"]):
        from .targets import run
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_MAX_SIZE}",
        f"-artifact_prefix={WORK}/found-{name}-",
        "-print_final_stats=1",
        "-timeout=30",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([sys.argv[0], *options, str(WORK / name)], lambda data: run(name, data))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
