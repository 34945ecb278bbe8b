"""Mutants of slurm_tf: what the tests of a module guard, measured. See __main__.py."""
