"""`make fuzz`: every harness for a minute each, and what came of it.

`python -m tests.fuzz [NAME ...] [--seconds 60] [--seed N] [--blind]`; and
`python -m tests.fuzz NAME --repeat FILE` for what was found. Crashes are left in `.fuzz/NAME/`.
Without atheris, or with --blind, the corpus is changed without a look at what the code does.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import blind
from tests.fuzz.harnesses import HARNESSES, corpus

FOLDER = Path(".fuzz")
EXECUTIONS = re.compile(r"stat::number_of_executed_units: *(\d+)")


def main() -> int:
    """Run harnesses; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(HARNESSES))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each harness")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--blind", action="store_true", help="do without atheris")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run what was found")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in HARNESSES]
    if unknown or (options.repeat and len(options.names) != 1):
        parser.error(f"give {'one' if options.repeat else 'any'} of: {', '.join(HARNESSES)}")
    if options.repeat:
        HARNESSES[options.names[0]](options.repeat.read_bytes())
        print("nothing is wrong with it")
        return 0
    is_blind = options.blind or importlib.util.find_spec("atheris") is None
    print(f"{'blind' if is_blind else 'atheris'}, seed {options.seed}", flush=True)
    fuzz = fuzz_blindly if is_blind else fuzz_guided
    fine = [fuzz(name, options.seed, options.seconds) for name in options.names or HARNESSES]
    return 0 if all(fine) else 1


def fuzz_guided(name: str, seed: int, seconds: float) -> bool:
    """Run a harness under atheris; return whether it found nothing."""
    limits = [f"-max_total_time={max(seconds, 1):.0f}", f"-seed={seed % 2**32}"]
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(FOLDER / name), *limits]
    before = found(name)
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    executions = EXECUTIONS.search(done.stderr)
    told = f"{executions[1]} executions" if executions else "no count of executions"
    report(name, told, is_fine=done.returncode == 0)
    if done.returncode:
        print(done.stdout[-3000:] + done.stderr[-3000:])
        tell_how_to_repeat(name, found(name) - before)
    return done.returncode == 0


def fuzz_blindly(name: str, seed: int, seconds: float) -> bool:
    """Run a harness on a corpus that is changed; return whether it found nothing."""
    before = found(name)
    try:
        count = blind.run(HARNESSES[name], corpus(name), seed, seconds, FOLDER / name)
    except Exception as error:  # Whatever a harness raises is what we are here for.
        report(name, f"{type(error).__name__}: {error}", is_fine=False)
        tell_how_to_repeat(name, found(name) - before)
        return False
    report(name, f"{count} executions", is_fine=True)
    return True


def found(name: str) -> set[Path]:
    """List what was found so far."""
    return {file for file in (FOLDER / name).glob("*-*") if file.is_file()}


def report(name: str, told: str, *, is_fine: bool) -> None:
    """Print the line of a harness."""
    print(f"{name:10} {'nothing found' if is_fine else 'FOUND'}; {told}", flush=True)


def tell_how_to_repeat(name: str, files: set[Path]) -> None:
    """Print the commands."""
    for file in sorted(files):
        print(f"{name:10} repeat: {sys.executable} -m tests.fuzz {name} --repeat {file}")


if __name__ == "__main__":
    sys.exit(main())
