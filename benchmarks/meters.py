"""What benchmarks measure with: memory and processor time of processes, percentiles, and lines of results."""

import os
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

MEGABYTE = 1024 * 1024
SAMPLE_S = 0.2


def p50(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile; of few values the worst, or nearly."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def verdict(value: float, limit: float, as_text: str) -> str:
    """How a value stands to its limit."""
    return f"{value / limit:.2f} of its limit of {as_text}, {'within' if value <= limit else 'OVER'}"


def tell(what: str, value: str, *, limit: str = "", peer: str = "") -> None:
    """Print one result: what it is, what was measured, its limit, and what it is beside a peer."""
    notes = [note for note in (limit, peer) if note]
    print(f"  {what:<42} " + "; ".join([value, *notes]), flush=True)


def tell_seconds(
    what: str,
    taken: Sequence[float],
    *,
    limit: float | None = None,
    bare: Sequence[float] = (),
    at: str = "p95",
) -> None:
    """Print percentiles of durations, the one that has a limit against it, and the ratio of medians to a peer."""
    chosen = max(taken) if at == "worst" else p95(taken)
    tell(
        what,
        f"p50 {_ms(p50(taken))}, p95 {_ms(p95(taken))}, worst {_ms(max(taken))}",
        limit=f"{at} is {verdict(chosen, limit, _ms(limit))}" if limit is not None else "",
        peer=f"{p50(taken) / p50(bare):.2f} times the bare {_ms(p50(bare))}" if bare else "",
    )


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 10 else f"{seconds * 1000:.0f} ms"


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, its children that ended, and those that run."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        times = process.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in process.children(recursive=True):
            with suppress(psutil.Error):
                times = child.cpu_times()
                total += times.user + times.system
    return total


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


@dataclass(slots=True)
class Others:
    """How busy other programs kept this machine, in cores."""

    cores: float = 0.0


@contextmanager
def others_beside(server_pid: int) -> Iterator[Others]:
    """See how busy other programs keep this machine while the block runs: figures are of what they left."""
    ours, found = (os.getpid(), server_pid), Others()
    busy, own, began = _busy_seconds(), sum(map(cpu_seconds, ours)), time.perf_counter()
    try:
        yield found
    finally:
        elapsed = time.perf_counter() - began
        found.cores = max(0.0, _busy_seconds() - busy - (sum(map(cpu_seconds, ours)) - own)) / elapsed


@contextmanager
def alone(server_pid: int) -> Iterator[None]:
    """Print how busy other programs kept this machine while the block ran."""
    found = Others()
    try:
        with others_beside(server_pid) as found:
            yield
    finally:
        tell("other programs meanwhile", f"{found.cores:.1f} of {psutil.cpu_count()} cores")


def resident(pid: int) -> tuple[int, int]:
    """Resident bytes of a process, and of its children."""
    try:
        process = psutil.Process(pid)
        own: int = process.memory_info().rss
        children = process.children(recursive=True)
    except psutil.Error:
        return 0, 0
    beside = 0
    for child in children:
        with suppress(psutil.Error):
            beside += child.memory_info().rss
    return own, beside


@dataclass(slots=True)
class Usage:
    """What processes used while they were watched; bytes and seconds."""

    peak: int = 0
    peak_children: int = 0
    steady: int = 0
    cpu_s: float = 0.0
    elapsed_s: float = 0.0
    seen: int = 0

    @property
    def cores(self) -> float:
        """Share of one core."""
        return self.cpu_s / self.elapsed_s if self.elapsed_s else 0.0


@contextmanager
def watched(pids: Iterable[int]) -> Iterator[Usage]:
    """Sample processes while the block runs; of several, the sum."""
    known = list(pids)
    usage = Usage()
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_S):
            _add(usage, known)

    before, began = sum(map(cpu_seconds, known)), time.perf_counter()
    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        usage.elapsed_s = time.perf_counter() - began
        usage.cpu_s = sum(map(cpu_seconds, known)) - before
        stop.set()
        thread.join()
        _add(usage, known)
        usage.steady = sum(resident(pid)[0] for pid in known)


def _add(usage: Usage, pids: Iterable[int]) -> None:
    found = [resident(pid) for pid in pids]
    usage.seen += 1
    usage.peak = max(usage.peak, sum(own for own, _ in found))
    usage.peak_children = max(usage.peak_children, sum(beside for _, beside in found))


def megabytes(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / MEGABYTE:.0f} MB"
