"""QIN's training alone and beside one busy process a core, by how idle threads wait.

Between two parallel regions a thread of OpenMP spins, or sleeps, or spins for a while and then
sleeps. One that spins is there at once, and takes its core from whoever else would work. What the
stages start with is `WAITING` of pipeline/common/guard.py; it is tried here beside what libgomp
does by itself, sleeping at once, and other lengths of the spin. Small sizes, as of params.yaml,
where the regions are short and the waiting is most of what there is to lose.

    python -m benchmarks.bench_busy [--rounds 2] [--steps 300] [--json PATH]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.support.training_world import write_world
from pipeline.common.files import read_json, write_json
from pipeline.common.guard import WAITING
from pipeline.common.outlook import available_cores

ROOT = Path(__file__).parents[1]
ITEMS, ROWS = 2_000, 144_000
"""The sample's."""
SPINS = (1_000, 5_000)
BUSY = "while True: pass"

LIBGOMP, SLEEP, OURS = "libgomp's own", "sleep at once", "the stages'"


def policies() -> dict[str, dict[str, str]]:
    """By name what the environment says."""
    spins = {
        f"spin {count:,}": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": str(count)}
        for count in SPINS
    }
    return {LIBGOMP: {}, SLEEP: {"OMP_WAIT_POLICY": "passive"}, **spins, OURS: WAITING}


def main() -> None:
    parser = argparse.ArgumentParser(description="Training beside other work, by how threads wait.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300, help="of 512 clicks, that are timed")
    parser.add_argument("--rows", type=int, default=ROWS, help="of train")
    parser.add_argument("--policies", nargs="+", choices=tuple(policies()), default=[*policies()])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    file = asked.json.absolute() if asked.json else None
    rates: dict[str, dict[str, list[float]]] = {
        name: {"alone": [], "busy": []} for name in asked.policies
    }
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_world(items=ITEMS, tags=60, train_rows=asked.rows, valid_rows=2)
        for _ in range(asked.rounds):
            for name, found in rates.items():
                found["alone"].append(rate(policies()[name], asked.steps))
                with busy_cores():
                    found["busy"].append(rate(policies()[name], asked.steps))
    print(table(rates))
    if file is not None:
        write_json(file, rates)


def rate(policy: dict[str, str], steps: int) -> float:
    """Samples a second in a process that starts with `policy`."""
    command = [sys.executable, "-m", "benchmarks.support.training", "--collapsed", "--scored=1"]
    command += ["--batch-size=512", "--embedding-dim=8", f"--steps={steps}", "--json=rate.json"]
    own = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    for name in WAITING:
        own.pop(name, None)
    subprocess.run(command, env=own | policy, check=True, stdout=subprocess.DEVNULL)
    return float(read_json(Path("rate.json"))["samples_per_s"])


@contextmanager
def busy_cores() -> Iterator[list[subprocess.Popen[bytes]]]:
    """One process a core that does nothing but keep it busy."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(available_cores())]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


def table(rates: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Medians, and their share of the best alone and of the same policy's alone."""
    middle = {
        name: {way: median(all) for way, all in found.items()} for name, found in rates.items()
    }
    best = max(found["alone"] for found in middle.values())
    lines = [f"{'samples/s':16}{'alone':>10}{'of the best':>13}{'busy':>10}{'of alone':>10}"]
    for name, found in middle.items():
        shares = found["alone"] / best, found["busy"] / found["alone"]
        alone, busy = f"{found['alone']:10,.0f}{shares[0]:13.0%}", f"{found['busy']:10,.0f}"
        lines.append(f"{name:16}{alone}{busy}{shares[1]:10.0%}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
