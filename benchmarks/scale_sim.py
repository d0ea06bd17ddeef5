"""A study on many workers, simulated: when the driver or the database is what everybody waits for.

`python -m benchmarks.scale_sim` prints the table of docs/scale.md from `scale.json`; `--measure` makes that file anew:
real studies on one and two workers of this machine. Discrete events; what takes how long is measured, not assumed.
"""

import argparse
import heapq
import json
import random
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FILE = Path(__file__).parent / "scale.json"

BATCHES = 3
"""Rounds of one trial a worker that a simulated driver makes."""

Ask = tuple["Server | None", float]
"""What a process waits for: some seconds of a server, or (None) of its own."""

Process = Generator[Ask, None, None]


@dataclass(frozen=True)
class Costs:
    """Seconds, as measured. driver: of the driver's own work a trial; write: of one commit; give: to hand over a unit.

    units: the seconds of units that were measured, drawn from with equal chance. folds: units a trial.
    """

    driver: float
    writes: int
    write: float
    give: float
    folds: int
    units: tuple[float, ...]

    def stretched(self, mean: float) -> "Costs":
        """The same spread about another mean."""
        now = sum(self.units) / len(self.units)
        return replace(self, units=tuple(seconds * mean / now for seconds in self.units))


class Server:
    """Something that serves `width` at a time, the others in the order they came."""

    def __init__(self, width: int) -> None:
        self.free, self.width = width, width
        self.busy = 0.0
        self.queue: deque[tuple[Process, float]] = deque()

    def load(self, seconds: float) -> float:
        """Share of its time in use."""
        return self.busy / (self.width * seconds)


class Clock:
    """Events in the order of time; equal times in the order of coming."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Process, Server | None]] = []
        self._count = 0

    def run(self, processes: Sequence[Process]) -> None:
        """Until all have ended."""
        for process in processes:
            self._later(0.0, process, None)
        while self._heap:
            self.now, _, process, server = heapq.heappop(self._heap)
            if server is not None:
                self._release(server)
            asked = next(process, None)
            if asked is not None:
                self._serve(process, *asked)

    def _serve(self, process: Process, server: Server | None, seconds: float) -> None:
        if server is not None and not server.free:
            server.queue.append((process, seconds))
            return
        if server is not None:
            server.free -= 1
            server.busy += seconds
        self._later(seconds, process, server)

    def _release(self, server: Server) -> None:
        server.free += 1
        if server.queue:
            self._serve(*_head(server))

    def _later(self, seconds: float, process: Process, server: Server | None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, self._count, process, server))


def _head(server: Server) -> tuple[Process, Server, float]:
    process, seconds = server.queue.popleft()
    return process, server, seconds


@dataclass
class Tally:
    """What one driver did."""

    trials: int = 0
    driving: float = 0.0
    working: float = 0.0


def driver(costs: Costs, workers: int, database: Server, rng: random.Random, tally: Tally) -> Process:
    """As `effft.search.driver`: ask a trial for every worker, have their units measured step by step, tell all."""
    for _ in range(BATCHES):
        for half in ("ask", "tell"):
            writes = costs.writes - costs.writes // 2 if half == "ask" else costs.writes // 2
            if half == "tell":
                for _ in range(costs.folds):
                    drawn = rng.choices(costs.units, k=workers)
                    tally.working += sum(drawn)
                    tally.driving += costs.give * workers
                    yield None, costs.give * workers + max(drawn)
            for _ in range(workers):
                tally.driving += costs.driver / 2
                yield None, costs.driver / 2
                for _ in range(writes):
                    yield database, costs.write
        tally.trials += workers


@dataclass(frozen=True)
class Load:
    """What came out: shares of time that workers work, that drivers do (or write), that the database is used."""

    workers: int
    drivers: int
    trials_per_second: float
    working: float
    driving: float
    database: float


def simulate(costs: Costs, workers: int, drivers: int = 1, connections: int = 1, seed: int = 0) -> Load:
    """`workers` in all, divided among the drivers; the database serves `connections` writes at a time."""
    clock, database = Clock(), Server(connections)
    tallies = [Tally() for _ in range(drivers)]
    rng = random.Random(seed)
    each = workers // drivers
    clock.run([driver(costs, each, database, random.Random(rng.random()), tally) for tally in tallies])
    seconds, trials = clock.now, sum(tally.trials for tally in tallies)
    busy = sum(tally.driving for tally in tallies) + trials * costs.writes * costs.write
    return Load(
        each * drivers, drivers, trials / seconds, sum(t.working for t in tallies) / (each * drivers * seconds),
        min(1.0, busy / (drivers * seconds)), database.load(seconds),
    )  # fmt: skip


def saturation(costs: Costs, connections: int = 1) -> int:
    """Workers of one driver from which on fewer than half of their time is work."""
    low, high = 1, 2
    while simulate(costs, high, 1, connections).working >= 0.5 and high < 1 << 15:
        low, high = high, 2 * high
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (middle, high) if simulate(costs, middle, 1, connections).working >= 0.5 else (low, middle)
    return high


@dataclass(frozen=True)
class Point:
    """A real study: trials a second after the first round, which starts the workers."""

    workers: int
    trials_per_second: float


@dataclass(frozen=True)
class Measured:
    """What `scale.json` holds."""

    machine: str
    costs: Costs
    points: tuple[Point, ...] = field(default=())


def read(path: Path = FILE) -> Measured:
    """The file that `--measure` wrote."""
    record = json.loads(path.read_text())
    costs = record["costs"]
    points = tuple(Point(**point) for point in record["points"])
    return Measured(record["machine"], Costs(**{**costs, "units": tuple(costs["units"])}), points)


def table(costs: Costs) -> list[str]:
    """Markdown: one driver, and a driver for every ten workers; short trials and long ones."""
    lines = [
        "| seconds a trial | workers | drivers | trials a minute | workers work | driver busy | database busy |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for seconds in (costs.folds * sum(costs.units) / len(costs.units), 60.0, 600.0):
        case = costs.stretched(seconds / costs.folds)
        for workers, drivers in ((10, 1), (100, 1), (1000, 1), (100, 10), (1000, 100)):
            load = simulate(case, workers, drivers)
            lines.append(
                f"| {seconds:.3g} | {workers:,} | {drivers} | {60 * load.trials_per_second:,.0f} | {load.working:.0%} "
                f"| {load.driving:.0%} | {load.database:.0%} |"
            )
        lines.append(f"| {seconds:.3g} | {saturation(case):,} | 1 | | 50% | | |")
    return lines


def main() -> None:
    """Print the table, and how far the measured points lie from the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="real studies on this machine first")
    parser.add_argument("--trials", type=int, default=24, help="of each real study")
    asked = parser.parse_args()
    if asked.measure:
        from benchmarks.scale_points import measure

        FILE.write_text(json.dumps(asdict(measure(asked.trials)), indent=1) + "\n")
    found = read()
    print("\n".join(table(found.costs)))
    for point in found.points:
        expected = simulate(found.costs, point.workers).trials_per_second
        print(
            f"{point.workers} workers: measured {point.trials_per_second:.3f} trials a second, "
            f"simulated {expected:.3f} ({point.trials_per_second / expected - 1:+.0%})"
        )


if __name__ == "__main__":
    main()
