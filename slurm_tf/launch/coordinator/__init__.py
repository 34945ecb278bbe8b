"""The coordinator, on the batch host: registration, assignments, the step, signals, restarts, the job's end."""
