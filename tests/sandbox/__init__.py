"""A real Slurm cluster on one Linux machine, in its own namespaces: docs/sandbox.md."""
