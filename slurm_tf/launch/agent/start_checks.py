"""Says of a program that is about to start what is known to go wrong with it, and with its GPUs."""

from functools import partial
from typing import Callable, Mapping, Optional, Sequence

from slurm_tf.launch.agent import gpu_check, program_python, program_warnings
from slurm_tf.launch.agent.program_place import Place
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.run import env


def begin(
    assignment: Assignment,
    argv: Sequence[str],
    environ: Mapping[str, str],
    place: Place,
    log: str,
    say: Callable[[str], None],
) -> Optional[gpu_check.OutputCheck]:
    """Say what is to be said before the program's start, each thing once a job; return what looks in its output.

    `place`: where it runs. Takes at most 20 s.
    """
    ask = partial(program_python.ask, argv, environ, place=place)
    if assignment.warns and environ[env.RESTARTS] == "0":
        for warning in program_warnings.of_program(environ[env.STRATEGY], argv, environ, ask):
            say(warning)
    return gpu_check.begin(assignment, argv, environ, log, say, ask)
