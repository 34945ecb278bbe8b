from tests.org.recorded_cluster import cluster

__all__ = ["cluster"]
