"""Compares what a plan asks for with the user's limits: what can never start is refused before it is submitted."""

from collections.abc import Mapping

from slurm_tf.errors import LimitError
from slurm_tf.jobspec.components import Component
from slurm_tf.jobspec.plan import Plan
from slurm_tf.org import user_quota
from slurm_tf.org.organizations import GPU
from slurm_tf.org.user_quota import Demand, Obstacle, UserQuota
from slurm_tf.slurm import associations, live_cluster
from slurm_tf.slurm.usage_limits import Limits


def demand(fitted: Plan) -> Demand:
    """Return what one job of a plan asks for, as far as it is known: of a sweep, one point."""
    spec = fitted.job.spec
    account, qos = (str(getattr(spec, name, "") or spec.sbatch.get(name, "")) for name in ("account", "qos"))
    length = fitted.time_limit.length if fitted.time_limit else None
    minutes = None if length is None else -(-int(length.total_seconds()) // 60)
    return Demand(tuple(_tres(each) for each in fitted.components), minutes, account, qos)


def check(fitted: Plan) -> UserQuota:
    """Return the user's quota. Raises LimitError for a job that asks for more than a limit ever allows.

    Limits of another cluster are not known here, and those of a partition's QOS may allow more. What Slurm does not
    say is no obstacle: sbatch is asked next.
    """
    quota = UserQuota(Limits(associations.me()))
    if not fitted.job.spec.sbatch.get("clusters"):
        quota = user_quota.of_user()
    hits = [each for each in quota.hits(demand(fitted)) if each.obstacle is Obstacle.NEVER]
    if hits and not _has_partition_qos(fitted):
        said = user_quota.hit_words(quota, hits[0], {})
        raise LimitError(said, "a job within your limits", "slurm-tf quota shows them")
    return quota


def _has_partition_qos(fitted: Plan) -> bool:
    names = {each.resources.partition if each.resources else "" for each in fitted.components}
    return bool(live_cluster.partitions_with_qos() & names)


def _tres(component: Component) -> Mapping[str, int]:
    """Return what a component asks for; what is not known is not there."""
    amounts = component.amounts
    known = {"cpu": amounts.cpus, "mem": amounts.memory, "node": amounts.nodes, GPU: amounts.gpus}
    typed = {f"{GPU}:{name}": number for name, number in amounts.gpu_types.items()}
    return {name: number for name, number in {**known, **typed}.items() if number is not None}
