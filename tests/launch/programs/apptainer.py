"""A stand-in for apptainer exec: variables come and go as there, and a process is between the agent and the program.

IMAGE is a folder that holds a file "environment", with a line for each variable.
"""

import os
import signal
import sys

OPTIONS = ("-s", "exec", "--cleanenv", "--no-eval", "--no-home")

options, words = [], sys.argv[1:]
while words[0] in OPTIONS or words[0].startswith(("--bind=", "--pwd=")):
    options.append(words.pop(0))
image, *program = words
try:
    with open(f"{image}/environment") as file:
        environ = dict(line.rstrip("\n").split("=", 1) for line in file)
except OSError as error:
    sys.exit(f"FATAL:   could not open image {image}: {error.strerror}")
environ.update({name[13:]: value for name, value in os.environ.items() if name.startswith("APPTAINERENV_")})
os.chdir(next(each[6:] for each in options if each.startswith("--pwd=")))
pid = os.fork()
if not pid:
    try:
        os.execvpe(program[0], program, environ)  # noqa: S606
    except OSError as error:
        print(f"FATAL:   stat {program[0]}: {error.strerror}", file=sys.stderr)
        os._exit(255)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGQUIT):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
