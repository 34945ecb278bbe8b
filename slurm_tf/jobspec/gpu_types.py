"""How a site is asked for GPUs of a type: by a name of its own, or by the feature of the nodes that have it.

Job files and profiles say one name for a type; only options of Slurm have the site's.
"""

from collections.abc import Iterable

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.sites import Site
from slurm_tf.units import Gpus


def spelled(site: Site, name: str) -> str:
    """Return the type that the site is asked for, "" for GPUs of any type."""
    known = site.gpu_types.get(name)
    if known is None or (known.name is None and not known.constraint):
        return name
    return known.name or ""


def as_known(site: Site, name: str) -> str:
    """Return the one name by which types are compared, whether `name` is a job file's or the site's own."""
    known = site.gpu_types.get(name)
    return (known.name if known else None) or name


def all_spelled(site: Site, gpus: Iterable[Gpus]) -> tuple[Gpus, ...]:
    """Return GPUs with the types that the site is asked for, of each type all in one."""
    numbers: dict[str, int] = {}
    for each in gpus:
        name = spelled(site, each.type)
        numbers[name] = numbers.get(name, 0) + each.number
    return tuple(Gpus(number, name) for name, number in numbers.items())


def constraint(site: Site, gpus: Iterable[Gpus], own: str, where: str) -> str:
    """Return the --constraint of a role: its `own` and the feature of the GPUs that it asks for.

    Raises ConfigError for types that need several features: no node has them all.
    """
    types = [site.gpu_types[each.type] for each in gpus if each.number and each.type in site.gpu_types]
    features = list(dict.fromkeys(each.constraint for each in types if each.constraint))
    if len(features) > 1:
        needed = f"GPUs of one type: this site selects them by a constraint, and it would be {' and '.join(features)}"
        raise ConfigError("found several types of GPUs", needed, where=where)
    if not features or features[0] == own:
        return own
    if not own:
        return features[0]
    # "&" and "|" are read from left to right; parentheses group, but not what has brackets (22.05.8)
    return f"({own})&{features[0]}" if "|" in own and "[" not in own else f"{own}&{features[0]}"
