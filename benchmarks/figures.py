"""Figures of a comparison, their ratios and goals, as a table and as JSON; it measures nothing."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.meters import MEGABYTE

VERBS = ("deploy", "no-op", "status", "verify", "revert")
INSIDE = ", inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What somebody took for one verb at one size, over all rounds; `failed` says why there is nothing."""

    who: str
    verb: str
    changes: int
    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...] = ()
    peak: int = 0
    failed: str = ""

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.seconds)

    @property
    def cpu(self) -> float:
        """Processor time, of the command and of the server."""
        return statistics.median(self.cpu_s) if self.cpu_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One figure beside another of the same run; with `limit` what it is held to.

    `times` is how many times as long as `against` it took, or, with `ahead`, how many times as long `against` took;
    it is of medians, and `best` of the best runs, which other programs disturbed least. `cpu` is of processor
    time, the server's included, which they hardly disturb; 0 where it is not known.
    """

    verb: str
    who: str
    against: str
    changes: int
    times: float
    best: float
    cpu: float = 0.0
    limit: float | None = None
    ahead: bool = False

    @property
    def within(self) -> bool:
        """Whether it is what it is held to."""
        if self.limit is None:
            return True
        return self.times >= self.limit if self.ahead else self.times <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is compared: `who` with the best of `against`; `ahead` asks for a multiple of our time."""

    verbs: tuple[str, ...]
    who: str
    against: tuple[str, ...]
    limit: float | None = None
    ahead: bool = False


PGPM = ("pgpm, default", "pgpm, fast")
GOALS = (
    Goal(verbs=("deploy", "revert"), who="us, change", against=("psql, change",), limit=1.2),
    Goal(verbs=("deploy", "revert"), who=f"us, change{INSIDE}", against=("psql, change",)),
    Goal(verbs=("deploy",), who="us, change", against=("psql, change, verified",)),
    Goal(verbs=("deploy",), who=f"us, change{INSIDE}", against=("psql, change, verified",)),
    Goal(verbs=("deploy", "revert"), who="us, module", against=("psql, module",), limit=1.2),
    Goal(verbs=("deploy", "revert"), who=f"us, module{INSIDE}", against=("psql, module",)),
    Goal(verbs=("verify",), who="us, change", against=("psql, change",)),
    Goal(verbs=VERBS, who="us, change", against=PGPM, limit=1.0, ahead=True),
    Goal(verbs=VERBS, who="us, module", against=PGPM, ahead=True),
    Goal(verbs=("deploy", "revert"), who="us, change", against=("sqitch",), limit=25.0, ahead=True),
    Goal(verbs=("no-op", "status", "verify"), who="us, change", against=("sqitch",), ahead=True),
)
WHY_MAX = 300
GOALS_FROM = 2000
"""Changes from which on ratios are held to goals: with few, all that is seen is what it takes to start."""
SECONDS = {"verify": 1.0, "no-op": 0.5, "status": 0.5}
"""What whole commands of ours may take, in seconds."""
GROWTH = 1.25
"""How much more memory the most changes may take than the fewest."""


class Book:
    """Collects what was taken, round by round."""

    def __init__(self) -> None:
        self._figures: dict[tuple[int, str, str], Figure] = {}

    def add(
        self, changes: int, who: str, verb: str, seconds: float, *, cpu_s: float = 0.0, peak: int = 0
    ) -> None:
        """Note one measurement."""
        old = self._figures.get((changes, who, verb))
        self._figures[changes, who, verb] = Figure(
            who=who,
            verb=verb,
            changes=changes,
            seconds=(*(old.seconds if old else ()), seconds),
            cpu_s=(*(old.cpu_s if old else ()), cpu_s),
            peak=max(peak, old.peak if old else 0),
            failed=old.failed if old else "",
        )

    def fail(self, changes: int, who: str, verb: str, why: str) -> None:
        """Note that somebody could not do it; the first reason stays."""
        old = self._figures.get((changes, who, verb))
        new = old or Figure(who=who, verb=verb, changes=changes, seconds=())
        self._figures[changes, who, verb] = replace(new, failed=new.failed or why)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All, in the order in which they came."""
        return tuple(self._figures.values())


def ratios(figures: Sequence[Figure], goals: Iterable[Goal] = GOALS) -> tuple[Ratio, ...]:
    """Each goal at each size where both were measured, against the fastest of those it names."""
    known = {(figure.changes, figure.who, figure.verb): figure for figure in figures if figure.seconds}
    sizes = dict.fromkeys(figure.changes for figure in figures)
    found = []
    for changes in sizes:
        for goal in goals:
            for verb in goal.verbs:
                mine = known.get((changes, goal.who, verb))
                theirs = [known[changes, who, verb] for who in goal.against if (changes, who, verb) in known]
                if mine is not None and theirs:
                    found.append(_ratio(goal, mine, min(theirs, key=lambda figure: figure.median)))
    return tuple(found)


def _ratio(goal: Goal, mine: Figure, theirs: Figure) -> Ratio:
    above, below = (theirs, mine) if goal.ahead else (mine, theirs)
    return Ratio(
        verb=mine.verb,
        who=mine.who,
        against=theirs.who,
        changes=mine.changes,
        times=above.median / below.median,
        best=min(above.seconds) / min(below.seconds),
        cpu=above.cpu / below.cpu if above.cpu and below.cpu else 0.0,
        limit=goal.limit if mine.changes >= GOALS_FROM else None,
        ahead=goal.ahead,
    )


def growth(figures: Sequence[Figure], who: str) -> Mapping[str, float]:
    """Peak memory at the most changes beside that at the fewest, for each verb of one."""
    found = {}
    for verb in VERBS:
        peaks = {
            figure.changes: figure.peak
            for figure in figures
            if (figure.who, figure.verb) == (who, verb) and figure.peak
        }
        if len(peaks) > 1:
            found[verb] = peaks[max(peaks)] / peaks[min(peaks)]
    return found


# ---- as people and as programs read them


def as_text(figures: Sequence[Figure], goals: Iterable[Goal] = GOALS) -> str:
    """A table for each size, then the ratios with their goals, then memory."""
    lines = []
    found = ratios(figures, goals)
    for changes in dict.fromkeys(figure.changes for figure in figures):
        here = [figure for figure in figures if figure.changes == changes]
        lines += [f"{changes} changes: seconds, median (best to worst)", *_matrix(here), ""]
        lines += [
            f"{changes} changes: seconds of processor time, the server's included",
            *_matrix(here, cpu=True),
            "",
        ]
        # Why the first verb fails is why the others do.
        why = {figure.who: figure for figure in reversed(here) if figure.failed}
        lines += [f"  {who}, {figure.verb}: {figure.failed[:WHY_MAX]}" for who, figure in why.items()]
        lines += [_line(ratio) for ratio in found if ratio.changes == changes]
        lines += [
            _seconds_line(figure) for figure in here if figure.who == "us, change" and figure.verb in SECONDS
        ]
        lines.append("")
    for who in ("us, change", "us, module"):
        lines += _memory(figures, who)
    return "\n".join(lines)


def _matrix(figures: Sequence[Figure], *, cpu: bool = False) -> list[str]:
    known = {(figure.who, figure.verb): figure for figure in figures}
    width = 22
    verbs = [verb for verb in VERBS if any(figure.verb == verb for figure in figures)]
    lines = [f"  {'':<20}" + "".join(f"{verb:>{width}}" for verb in verbs)]
    for who in dict.fromkeys(figure.who for figure in figures):
        row = [known.get((who, verb)) for verb in verbs]
        if not cpu:
            lines.append(f"  {who:<20}" + "".join(f"{_cell(cell):>{width}}" for cell in row))
        elif any(cell is not None and cell.cpu for cell in row):
            lines.append(f"  {who:<20}" + "".join(f"{_cpu(cell):>{width}}" for cell in row))
    return lines


def _cpu(figure: Figure | None) -> str:
    return f"{figure.cpu:.2f}" if figure is not None and figure.cpu else "-"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if not figure.seconds:
        return "fails"
    mark = " !" if figure.failed else ""
    if len(figure.seconds) == 1:
        return f"{figure.median:.2f}{mark}"
    return f"{figure.median:.2f} ({min(figure.seconds):.2f}-{max(figure.seconds):.2f}){mark}"


def _line(ratio: Ratio) -> str:
    digits = 1 if ratio.ahead else 2
    beside = f"best runs {ratio.best:.{digits}f}"
    beside += f", processor time {ratio.cpu:.{digits}f}" if ratio.cpu else ""
    if ratio.ahead:
        times = f"{ratio.times:.1f} times ({beside})"
        said = f"{ratio.verb}: {ratio.who} is {times} as fast as {ratio.against}"
        wanted = f"at least {ratio.limit:g}" if ratio.limit is not None else ""
    else:
        times = f"{ratio.times:.2f} ({beside})"
        said = f"{ratio.verb}: {ratio.who} takes {times} of {ratio.against}"
        wanted = f"at most {ratio.limit:g}" if ratio.limit is not None else ""
    return f"  {said}" + (f"; goal {wanted}, {_verdict(ratio.within)}" if wanted else "")


def _seconds_line(figure: Figure) -> str:
    limit = SECONDS[figure.verb]
    verdict = _verdict(figure.median <= limit)
    return f"  {figure.verb}: {figure.who} takes {figure.median:.2f} s; goal at most {limit:g} s, {verdict}"


def _verdict(within: bool) -> str:
    return "within" if within else "OVER"


def _memory(figures: Sequence[Figure], who: str) -> list[str]:
    peaks = [figure for figure in figures if figure.who == who and figure.peak]
    grown = growth(figures, who)
    lines = []
    for verb in VERBS:
        row = [f"{f.peak / MEGABYTE:.0f} MB at {f.changes}" for f in peaks if f.verb == verb]
        if row:
            more = f"; {grown[verb]:.2f} times, {_verdict(grown[verb] <= GROWTH)}" if verb in grown else ""
            lines.append(f"  peak memory, {who}, {verb}: " + ", ".join(row) + more)
    return lines


def as_json(figures: Sequence[Figure], goals: Iterable[Goal] = GOALS) -> dict[str, Any]:
    """All that was measured."""
    return {
        "figures": [
            {
                "who": figure.who,
                "verb": figure.verb,
                "changes": figure.changes,
                "seconds": [round(seconds, 4) for seconds in figure.seconds],
                "median": round(figure.median, 4) if figure.seconds else None,
                "cpu_seconds": [round(seconds, 3) for seconds in figure.cpu_s],
                "peak_bytes": figure.peak,
                "failed": figure.failed,
            }
            for figure in figures
        ],
        "ratios": [
            {
                "verb": ratio.verb,
                "who": ratio.who,
                "against": ratio.against,
                "changes": ratio.changes,
                "times": round(ratio.times, 3),
                "times_of_best": round(ratio.best, 3),
                "times_of_cpu": round(ratio.cpu, 3),
                "ahead": ratio.ahead,
                "goal": ratio.limit,
                "within": ratio.within,
            }
            for ratio in ratios(figures, goals)
        ],
        "memory_growth": {who: growth(figures, who) for who in ("us, change", "us, module")},
    }
