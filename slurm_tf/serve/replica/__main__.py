"""`python -m slurm_tf.serve.replica SETTINGS.json`: serves the models of the settings until SIGTERM."""

import sys
from typing import List

from slurm_tf.errors import SlurmTfError, UsageError
from slurm_tf.files import storage_error
from slurm_tf.serve import endpoint, replica_settings
from slurm_tf.serve.replica.replica_log import say


def main(arguments: List[str]) -> int:
    """Return the exit code of a replica."""
    try:
        if len(arguments) != 1:
            raise UsageError(f"found {len(arguments)} arguments", "the path of a replica's settings")
        settings = replica_settings.read(arguments[0])
        settings.token()
        endpoint.living(settings.endpoint_folder)
        # TensorFlow is imported once these are known to be right
        from slurm_tf.serve.replica import replica_process

        replica_process.run(settings)
    except SlurmTfError as error:
        say(str(error))
        return error.exit_code
    except OSError as error:
        say(str(storage_error(error, "serve")))
        return 74
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
