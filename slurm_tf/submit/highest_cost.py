"""Says in words the most that a job may take: hours, their price, and Slurm's billing."""

from slurm_tf.errors import SlurmError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.slurm import billing, usage_limits
from slurm_tf.submit import estimate


def words(plan: Plan) -> str:
    """Return the hours of a job that runs until its time limit, their price and Slurm's billing, as far as known."""
    most, prices = estimate.at_most(plan), plan.job.site.prices
    amounts = [f"{_number(most.gpu)} GPU-hours", f"{_number(most.cpu)} CPU-hours"]
    try:
        billed = estimate.billing_at_most(plan, billing.weights())
    except SlurmError:  # it does not keep a job from being submitted
        billed = None
    cost = most.price(prices)
    if prices.billing_hour is not None:
        cost = None if billed is None else billed * prices.billing_hour
    factor = _qos_factor(plan) if cost is not None and prices.currency else None
    if cost is not None and factor is not None:
        amounts.append(f"{cost * factor:.2f} {prices.currency}")
    if billed is not None:
        amounts.append(f"{_number(billed)} billing-hours")
    return ", ".join(amounts)


def _qos_factor(plan: Plan) -> float | None:
    """Return what the price of a job is multiplied by: what the prices say of its QOS, else Slurm's UsageFactor.

    None where Slurm does not say it.
    """
    qos, prices = plan.job.spec.qos, plan.job.site.prices
    if qos and qos not in prices.qos:
        try:
            prices = prices.with_factors(usage_limits.usage_factors())
        except SlurmError:  # as of the billing above
            return None
    return prices.qos.get(qos or "", 1.0)


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
