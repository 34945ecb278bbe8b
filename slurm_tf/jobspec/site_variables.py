"""The environment variables that a site's profile gives to every job: scratch folder, network, threads, [env]."""

from collections.abc import Mapping

from slurm_tf.jobspec.sites import Site
from slurm_tf.run import env


def of_script(site: Site) -> Mapping[str, str]:
    """Return the variables that the batch script exports, in their order: a later one may name an earlier one.

    NCCL and Gloo each have an own variable for the interface. To NCCL a name alone is a prefix, and "=" in front makes
    it exact (NVIDIA's documentation, NCCL_SOCKET_IFNAME).
    """
    own = {env.SCRATCH: site.scratch} if site.scratch else {}
    if site.interface:
        own |= {"NCCL_SOCKET_IFNAME": f"={site.interface}", "GLOO_SOCKET_IFNAME": site.interface}
    if site.thread_variables:
        own[env.THREAD_VARIABLES] = ",".join(site.thread_variables)
    return {**own, **site.env}
