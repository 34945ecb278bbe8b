"""The agent, one process beside each task: starts the program, reports its end, acts without a coordinator."""
