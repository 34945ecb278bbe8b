"""Finds what makes jobs fail on a cluster: on the login node, and in a short job on compute nodes."""

# what other rooms may import
__all__ = ["examination_job", "findings", "login_node", "node_checks", "node_job"]
