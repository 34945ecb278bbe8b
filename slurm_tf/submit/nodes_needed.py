"""Says in words how many nodes a job of several roles needs, and what it pays for above what they ask for."""

from slurm_tf import units
from slurm_tf.jobspec.components import Layout
from slurm_tf.slurm.billing import Amounts


def words(layout: Layout) -> str:
    """Return how many nodes the roles need, and who shares them; "" where all roles ask for the same."""
    if layout.sharing:
        return f"{_counted(layout.sharing.nodes, 'node')} for all roles: {', '.join(layout.roles)}"
    if not layout.apart:
        return ""
    least = sum(component.amounts.nodes or 1 for component in layout.components)
    groups = "; ".join(", ".join(step.roles) for step in layout.steps)
    return f"{least} or more, as {len(layout.components)} components have nodes of their own ({groups}): {layout.apart}"


def surplus(layout: Layout) -> str:
    """Return what the nodes that roles share hold above the sum of what the roles ask for; "" for nothing."""
    parts = _parts(layout.sharing.surplus) if layout.sharing else []
    return f"{_listed(parts)} above the sum of the roles: each node can hold the largest share" if parts else ""


def _parts(above: Amounts) -> list[str]:
    return [
        *([_counted(above.cpus, "CPU")] if above.cpus else []),
        *([f"{units.format_memory(above.memory)} of memory"] if above.memory else []),
        *([_counted(above.gpus, "GPU")] if above.gpus else []),
    ]


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
