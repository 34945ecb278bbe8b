"""Leads clients on the login node to the replicas of a service: spreads requests, adds the token, goes on over jobs."""

# what other rooms may import
__all__ = ["example_request", "forwarding", "local_sockets", "upstream"]
