"""From what a preflight measured to the nodes that are not fit for the job. No I/O.

Whose fault it is shows in the pairs: a node that is cut off fails with every other, which fails with it alone. A node
is slow if the best of its pairs is worse by `factor` than the usual node's best pair, so that neither a slow partner
nor a moment's noise counts against it; up to half of the nodes may be slow and are still found. Two nodes alone cannot
be told apart: both are named where they do not reach each other, and neither is called slow.
"""

import statistics
from collections import Counter
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.run.preflight_report import Figures, Node

# Below this a round trip is not slow, whatever the others' are: seconds.
_LATENCY_FLOOR = 0.001

Pair = Tuple[str, str]


@dataclass(frozen=True)
class Row:
    """The figures by which a node is judged, each its best: None where nothing was measured."""

    latency: Optional[float]
    sends: Optional[float]
    receives: Optional[float]


def rounds(names: Sequence[str], most: int) -> List[List[Pair]]:
    """Return rounds of pairs in which each node has one partner at most, until all have met, or `most` others.

    Each round of partners comes twice, once in each direction. The circle method of round-robin tournaments.
    """
    circle: List[Optional[str]] = [*names, *([None] if len(names) % 2 else [])]
    found: List[List[Pair]] = []
    for _ in range(min(len(circle) - 1, most)):
        half = len(circle) // 2
        partners = list(zip(circle[:half], reversed(circle[half:])))
        pairs = [(one, other) for one, other in partners if one is not None and other is not None]
        found += [pairs, [(other, one) for one, other in pairs]]
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return [pairs for pairs in found if pairs]


def row(name: str, figures: Iterable[Figures]) -> Row:
    """Return the best figures of node `name`."""
    own = [each for each in figures if name in (each.source, each.target)]
    return Row(
        min((each.latency for each in own if each.latency is not None), default=None),
        max((each.bandwidth for each in own if each.source == name and each.bandwidth is not None), default=None),
        max((each.bandwidth for each in own if each.target == name and each.bandwidth is not None), default=None),
    )


def judge(nodes: Sequence[Node], figures: Sequence[Figures], factor: float) -> Dict[str, str]:
    """Return why, for each node that is not fit."""
    reasons: Dict[str, List[str]] = {}
    for node in nodes:
        if node.error:
            reasons.setdefault(node.name, []).append(node.error)
        if node.gpus < node.gpus_wanted:
            reasons.setdefault(node.name, []).append(f"has {node.gpus} GPUs of {node.gpus_wanted}")
    silent = {node.name for node in nodes if node.error}
    cut = [(each.source, each.target) for each in figures if each.error]
    for name, others in _guilty(cut, silent).items():
        error = next(each.error for each in figures if each.error and {each.source, each.target} & {name})
        reasons.setdefault(name, []).append(f"no connection with {_some(others)}: {error}")
    unseen = [(node.name, other) for node in nodes for other in node.unseen]
    for name, others in _guilty(unseen, silent).items():
        reasons.setdefault(name, []).append(f"does not share the run's folder with {_some(others)}")
    for name, why in _slow({node.name: row(node.name, figures) for node in nodes}, factor).items():
        reasons.setdefault(name, []).append(why)
    return {name: "; ".join(why) for name, why in reasons.items()}


def judge_mpi(figures: Sequence[Figures], factor: float) -> Dict[str, str]:
    """Return why, for each node that is slow by the figures of the MPI step, alike in both directions."""
    slow = _slow({name: replace(row(name, figures), receives=None) for name in _sources(figures)}, factor)
    return {name: f"by MPI {why.replace('sends', 'allreduces')}" for name, why in slow.items()}


def _guilty(failed: Iterable[Pair], known: Iterable[str]) -> Dict[str, List[str]]:
    """Return who explains the failed pairs, with their partners: again and again those who failed most.

    `known` are bad already: what failed with them says nothing about their partners.
    """
    left = {frozenset(pair) for pair in failed if not set(pair) & set(known)}
    guilty: Dict[str, List[str]] = {}
    while left:
        counts = Counter(name for pair in left for name in pair)
        most = max(counts.values())
        worst = {name for name, count in counts.items() if count == most}
        for name in sorted(worst):
            guilty[name] = sorted(other for pair in left if name in pair for other in pair if other != name)
        left = {pair for pair in left if not pair & worst}
    return guilty


def _slow(rows: Mapping[str, Row], factor: float) -> Dict[str, str]:
    reasons: Dict[str, List[str]] = {}
    latencies = {name: each.latency for name, each in rows.items() if each.latency is not None}
    if latencies:
        usual = statistics.median_low(latencies.values())
        for name, value in latencies.items():
            if value > max(usual * factor, _LATENCY_FLOOR):
                reasons.setdefault(name, []).append(f"answers in {_ms(value)} ms, others in {_ms(usual)} ms")
    streams: List[Tuple[str, Callable[[Row], Optional[float]]]] = [
        ("sends", lambda each: each.sends),
        ("receives", lambda each: each.receives),
    ]
    for verb, figure in streams:
        rates = {name: value for name, value in ((name, figure(each)) for name, each in rows.items()) if value}
        usual = statistics.median_high(rates.values()) if rates else 0.0
        for name, value in rates.items():
            if value * factor < usual:
                reasons.setdefault(name, []).append(f"{verb} {_mb(value)} MB/s, others {_mb(usual)} MB/s")
    return {name: "; ".join(why) for name, why in reasons.items()}


def table(nodes: Sequence[Node], figures: Sequence[Figures], reasons: Mapping[str, str]) -> List[str]:
    """Return lines to print: a node each, what is wrong with it last."""
    cells = [("node", "round trip, ms", "sends, MB/s", "receives, MB/s", "GPUs", "")]
    for node in nodes:
        own = row(node.name, figures)
        gpus = f"{node.gpus}/{node.gpus_wanted}" if node.gpus_wanted else "-"
        cells.append(
            (node.name, _ms(own.latency), _mb(own.sends), _mb(own.receives), gpus, reasons.get(node.name, "ok"))
        )
    return _aligned(cells)


def mpi_table(figures: Sequence[Figures], reasons: Mapping[str, str]) -> List[str]:
    """Return lines to print of what the MPI step measured."""
    cells = [("node", "MPI round trip, ms", "allreduce, MB/s", "")]
    for name in _sources(figures):
        own = row(name, figures)
        cells.append((name, _ms(own.latency), _mb(own.sends), reasons.get(name, "ok")))
    return _aligned(cells)


def _sources(figures: Sequence[Figures]) -> List[str]:
    return sorted({each.source for each in figures})


def _aligned(cells: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]) - 1)]
    return ["  ".join([*(f"{cell:{width}}" for cell, width in zip(line, widths)), line[-1]]).rstrip() for line in cells]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def _ms(seconds: Optional[float]) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.3f}"


def _mb(rate: Optional[float]) -> str:
    return "-" if rate is None else f"{rate / 1e6:.1f}"
