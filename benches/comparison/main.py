"""The command line: check, run interleaved, print."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine, report, systems
from .scenarios import SCENARIOS, Bench


def main(text):
    arguments = parse(text)
    missing = systems.missing(arguments.system)
    if missing:
        say("not here yet; these commands bring it:\n" + "\n".join(f"  {line}" for line in missing))
        if not arguments.install:
            say("run them, or run benches/compare --install")
            return 1
        for line in missing:
            say(f"$ {line}")
            subprocess.run(line, shell=True, check=True, cwd=systems.ROOT)
    if arguments.install:
        say("everything is here")
        return 0
    chosen = [s for s in SCENARIOS if not arguments.scenario or s.name in arguments.scenario]
    results = {"about": machine.about(systems.ROOT), "repetitions": arguments.repetitions,
               "seconds": arguments.seconds, "scenarios": {}}
    with tempfile.TemporaryDirectory(prefix="weir-compare-") as folder:
        folder = Path(folder)
        # nginx's workers run as another user when it is started by root.
        folder.chmod(0o755)
        (folder / "tls").mkdir()
        systems.certificate(folder / "tls")
        for scenario in chosen:
            results["scenarios"][scenario.name] = measure(scenario, arguments, folder)
            if arguments.json:
                Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
            print(report.table(scenario, results["scenarios"][scenario.name]), flush=True)
    print(report.closing(results))
    return 0


def parse(text):
    parser = argparse.ArgumentParser(
        prog="benches/compare", description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=[s.name for s in SCENARIOS],
                        help="only this one; may be given several times")
    parser.add_argument("--system", action="append", choices=["weir", *systems.PEERS],
                        help="only this gateway; may be given several times")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each; default 5")
    parser.add_argument("--seconds", type=int, default=4, help="length of one run; default 4")
    parser.add_argument("--json", help="file that takes the results")
    parser.add_argument("--install", action="store_true",
                        help="run the commands that bring what is missing, and stop")
    return parser.parse_args()


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def contestants(scenario, arguments):
    """Name and how to start it, in the order of the table."""
    if scenario.variations:
        return {
            name: lambda *at, v=variation: systems.weir(*at, variation=v)
            for name, variation in scenario.variations.items()
        }
    every = {"weir": systems.weir, **systems.PEERS}
    return {n: start for n, start in every.items() if not arguments.system or n in arguments.system}


def measure(scenario, arguments, folder):
    """Figures of each contestant, a list with one value a repetition. Contestants take turns, so that
    whatever else the machine does meets all of them."""
    cores, others = machine.layout(scenario.workers)
    bench = Bench(others, folder, arguments.seconds)
    found = {}
    names = contestants(scenario, arguments)
    for repetition in range(arguments.repetitions):
        for name, start in names.items():
            home = folder / f"{scenario.name}-{name}-{repetition}".replace(" ", "")
            home.mkdir()
            home.chmod(0o777)
            backends = [systems.backend(others, home) for _ in range(2)]
            started = None
            try:
                started = start(home, scenario.workers, cores, [b.port for b in backends], folder / "tls")
                warm = Bench(others, folder, 1)
                if scenario.name != "idle":
                    scenario.run(warm, started)
                else:
                    warm.load(started, "rate", "--rate", 100)
                    time.sleep(1)
                figures = scenario.run(bench, started)
            except RuntimeError as error:
                say(f"{scenario.name}, {name}: {error}")
                figures = {}
            finally:
                if started:
                    started.stop()
                for server in backends:
                    server.stop()
            for figure, value in figures.items():
                found.setdefault(name, {}).setdefault(figure, []).append(value)
    return found
