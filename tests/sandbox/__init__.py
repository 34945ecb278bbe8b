"""A real Slurm cluster on one Linux machine, in namespaces of its own: docs/sandbox.md."""
