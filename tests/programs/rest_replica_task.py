"""The program of a task of a service whose replicas are those of rest_replica.py."""

import os
import sys
from pathlib import Path

from slurm_tf.serve import replica_task

if __name__ == "__main__":
    sys.exit(replica_task.run(os.environ, [str(Path(__file__).with_name("rest_replica.py"))]))
