"""Runs another program, then prints the checksum of its `model` in this rank: checksum.py PROGRAM ARGUMENT..."""

import hashlib
import runpy
import sys

import numpy as np

sys.argv = sys.argv[1:]
ended = runpy.run_path(sys.argv[0], run_name="__main__")
model, rank = ended["model"], ended["run"].rank
variables = [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]
checksum = hashlib.sha256(b"".join(variable.tobytes() for variable in variables)).hexdigest()
print(f"rank {rank}: {len(variables)} variables, checksum {checksum[:16]}")
