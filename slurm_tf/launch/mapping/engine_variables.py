"""Makes the variables by which the programs of an engine know their memory and prove who they are."""

import hashlib
import hmac
from collections import Counter
from typing import Dict, List, Mapping, Sequence

from slurm_tf.launch.mapping.cluster import Cluster
from slurm_tf.run import env
from slurm_tf.run.settings import RoleSettings


def secret(of_agents: str) -> Dict[str, str]:
    """Return the variable with what all programs of a step know and nobody else.

    `of_agents`: the agents' secret, hexadecimal. It stays theirs: the programs get another one that is made of it, so
    it does not travel either.
    """
    own = hmac.new(bytes.fromhex(of_agents), b"slurm-tf engine", hashlib.sha256).hexdigest()
    return {env.ENGINE_SECRET: own}


def memory(cluster: Cluster, roles: Sequence[RoleSettings], of_nodes: Mapping[str, int]) -> List[Dict[str, str]]:
    """Return the variable with the memory of each task, in the order of the cluster.

    `of_nodes`: MiB that a node has for this job, which its tasks divide where the job does not say what they have.
    Nothing is set where that is not known either.
    """
    of_role = {role.name: role.memory for role in roles}
    on_node = Counter((task.node, task.role) for task in cluster.tasks)
    found: List[Dict[str, str]] = []
    for task in cluster.tasks:
        stated = of_role[task.role]
        mib = stated.mib if stated else of_nodes.get(task.node, 0)
        together = stated.roles if stated else tuple(of_role)
        tasks = sum(on_node[task.node, name] for name in together) or 1
        found.append({env.MEM: str(mib // tasks)} if mib else {})
    return found
