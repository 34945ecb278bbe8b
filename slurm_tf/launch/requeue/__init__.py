"""Ends an attempt once its programs have ended: the run is over, the job is requeued, or another job follows it."""

# what other rooms may import
__all__ = ["lease_holder"]
