"""The command line: the only place that prints and exits."""

import sys


def main() -> None:
    """Run slurm-tf."""
    if sys.argv[1:2] == ["launch"]:
        # in every task of a step: no click, and any Python that a node has
        from slurm_tf.launch.direct.direct_launch import main as launch

        launch(sys.argv[2:])
    if sys.version_info < (3, 11):
        sys.exit(
            f"slurm-tf: found Python {sys.version.split()[0]}; needed 3.11 or later for the commands "
            "(slurm_tf.launch and slurm_tf.train run on 3.9)"
        )
    from slurm_tf.cli.commands import run_commands

    run_commands()
