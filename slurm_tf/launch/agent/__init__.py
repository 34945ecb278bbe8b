"""The agent, one process beside each task: starts the program, reports its end, acts without a coordinator."""

# what other rooms may import
__all__ = ["memory_cgroup"]
