"""What is known of nodes: the preflight, its diagnosis, and which nodes the next attempt excludes."""
