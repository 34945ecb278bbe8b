"""Decisions of a job: restarts, what a signal means, hangs, stragglers, retries. No input or output."""
