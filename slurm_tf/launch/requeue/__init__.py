"""What becomes of the job when its programs have ended: the end, a requeue, or a job that follows."""

# what other rooms may import
__all__ = ["lease_holder"]
