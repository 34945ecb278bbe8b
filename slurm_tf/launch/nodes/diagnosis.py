"""Finds the nodes that are not fit for the job from the measurements of a preflight. No I/O.

Measurements are of pairs. A node that is cut off fails with every partner, and each partner fails with that node alone.
A node is slow if the best figure of its pairs is worse by `factor` than the median of all nodes' best figures: neither
a slow partner nor a short disturbance counts against it, and up to half of the nodes may be slow. Of two nodes alone,
both are unfit where they do not reach each other, and neither is slow.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.run.preflight_report import Figures, Node

# Seconds of a round trip that is not slow, whatever those of other nodes are.
_LATENCY_FLOOR = 0.001

Pair = Tuple[str, str]


@dataclass(frozen=True)
class NodeFigures:
    """The best figures of one node: seconds, and bytes per second; None where nothing was measured."""

    latency: Optional[float]
    sends: Optional[float]
    receives: Optional[float]


def rounds(names: Sequence[str], most: int) -> List[List[Pair]]:
    """Return rounds of pairs: each node has one partner in a round, and at most `most` partners in all rounds.

    Each round comes twice, once in each direction. Source: the circle method of round-robin tournaments.
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


def best_figures(name: str, figures: Iterable[Figures]) -> NodeFigures:
    """Return the best figures of node `name`."""
    of_node = [each for each in figures if name in (each.source, each.target)]
    return NodeFigures(
        min((each.latency for each in of_node if each.latency is not None), default=None),
        max((each.bandwidth for each in of_node if each.source == name and each.bandwidth is not None), default=None),
        max((each.bandwidth for each in of_node if each.target == name and each.bandwidth is not None), default=None),
    )


def diagnose(nodes: Sequence[Node], figures: Sequence[Figures], factor: float) -> Dict[str, str]:
    """Return the reason of each node that is not fit, in words."""
    reasons: Dict[str, List[str]] = {}
    for node in nodes:
        if node.error:
            reasons.setdefault(node.name, []).append(node.error)
        if node.gpus < node.gpus_wanted:
            reasons.setdefault(node.name, []).append(f"has {node.gpus} GPUs of {node.gpus_wanted}")
    failed = {node.name for node in nodes if node.error}
    unconnected = [(each.source, each.target) for each in figures if each.error]
    for name, others in _explain(unconnected, failed).items():
        error = next(each.error for each in figures if each.error and {each.source, each.target} & {name})
        reasons.setdefault(name, []).append(f"no connection with {_some(others)}: {error}")
    unseen = [(node.name, other) for node in nodes for other in node.unseen]
    for name, others in _explain(unseen, failed).items():
        reasons.setdefault(name, []).append(f"does not share the run's folder with {_some(others)}")
    for name, why in _slow({node.name: best_figures(node.name, figures) for node in nodes}, factor).items():
        reasons.setdefault(name, []).append(why)
    return {name: "; ".join(why) for name, why in reasons.items()}


def diagnose_mpi(figures: Sequence[Figures], factor: float) -> Dict[str, str]:
    """Return the reason of each node that is slow by the figures of the MPI step, equal in both directions."""
    slow = _slow({name: replace(best_figures(name, figures), receives=None) for name in _sources(figures)}, factor)
    return {name: f"by MPI {why.replace('sends', 'allreduces')}" for name, why in slow.items()}


def _explain(failed: Iterable[Pair], known: Iterable[str]) -> Dict[str, List[str]]:
    """Return the nodes that explain the failed pairs, with the partners of each: repeatedly those in most pairs.

    `known`: nodes that are unfit already; their failed pairs say nothing about their partners.
    """
    left = {frozenset(pair) for pair in failed if not set(pair) & set(known)}
    unfit: Dict[str, List[str]] = {}
    while left:
        counts = Counter(name for pair in left for name in pair)
        most = max(counts.values())
        worst = {name for name, count in counts.items() if count == most}
        for name in sorted(worst):
            unfit[name] = sorted(other for pair in left if name in pair for other in pair if other != name)
        left = {pair for pair in left if not pair & worst}
    return unfit


def _slow(nodes: Mapping[str, NodeFigures], factor: float) -> Dict[str, str]:
    """Return the reason of each node that is slow, by its best figures."""
    reasons: Dict[str, List[str]] = {}
    latencies = {name: each.latency for name, each in nodes.items() if each.latency is not None}
    if latencies:
        median = sorted(latencies.values())[(len(latencies) - 1) // 2]
        for name, value in latencies.items():
            if value > max(median * factor, _LATENCY_FLOOR):
                reasons.setdefault(name, []).append(f"answers in {_ms(value)} ms, others in {_ms(median)} ms")
    streams: List[Tuple[str, Callable[[NodeFigures], Optional[float]]]] = [
        ("sends", lambda each: each.sends),
        ("receives", lambda each: each.receives),
    ]
    for verb, figure in streams:
        rates = {name: value for name, value in ((name, figure(each)) for name, each in nodes.items()) if value}
        median = sorted(rates.values())[len(rates) // 2] if rates else 0.0
        for name, value in rates.items():
            if value * factor < median:
                reasons.setdefault(name, []).append(f"{verb} {_mb(value)} MB/s, others {_mb(median)} MB/s")
    return {name: "; ".join(why) for name, why in reasons.items()}


def table(nodes: Sequence[Node], figures: Sequence[Figures], reasons: Mapping[str, str]) -> List[str]:
    """Return a table to print: a line for each node, with the reason why it is unfit last."""
    cells = [("node", "round trip, ms", "sends, MB/s", "receives, MB/s", "GPUs", "")]
    for node in nodes:
        best = best_figures(node.name, figures)
        gpus = f"{node.gpus}/{node.gpus_wanted}" if node.gpus_wanted else "-"
        cells.append(
            (node.name, _ms(best.latency), _mb(best.sends), _mb(best.receives), gpus, reasons.get(node.name, "ok"))
        )
    return _aligned(cells)


def mpi_table(figures: Sequence[Figures], reasons: Mapping[str, str]) -> List[str]:
    """Return a table to print of what the MPI step measured."""
    cells = [("node", "MPI round trip, ms", "allreduce, MB/s", "")]
    for name in _sources(figures):
        best = best_figures(name, figures)
        cells.append((name, _ms(best.latency), _mb(best.sends), reasons.get(name, "ok")))
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
