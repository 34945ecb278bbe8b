"""Every option of sbatch, and what slurm-tf makes of it.

Source: sbatch(1), `sbatch --help` and src/common/slurm_opt.c of Slurm 22.05.8 and 26.05.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Argument(Enum):
    """Whether an option has a value; an optional one stands behind "=", or directly behind the letter."""

    NONE = 0
    REQUIRED = 1
    OPTIONAL = 2


class Use(Enum):
    """What slurm-tf makes of an option.

    KEPT: it is in the script, also as a key of [sbatch]. KEY: it is a key of the job file. VERB: it is an option of
    `slurm-tf submit`, and has no meaning in a file. REFUSED: slurm-tf decides what it says.
    """

    KEPT = "kept"
    KEY = "key"
    VERB = "verb"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SbatchOption:
    """An option of sbatch. `instead`: the key's name; what the verb does; what to use in its place, or why not.

    `false`: what `name = false` says in [sbatch]; "": that the option is not set.
    """

    name: str
    letter: str
    argument: Argument
    use: Use
    instead: str = ""
    false: str = ""


def _kept(name: str, letter: str = "", false: str = "") -> SbatchOption:
    return SbatchOption(name, letter, Argument.REQUIRED, Use.KEPT, false=false)


def _flag(name: str, letter: str = "", false: str = "") -> SbatchOption:
    return SbatchOption(name, letter, Argument.NONE, Use.KEPT, false=false)


def _optional(name: str, letter: str = "", false: str = "") -> SbatchOption:
    return SbatchOption(name, letter, Argument.OPTIONAL, Use.KEPT, false=false)


def _key(name: str, key: str, letter: str = "", argument: Argument = Argument.REQUIRED) -> SbatchOption:
    return SbatchOption(name, letter, argument, Use.KEY, key)


def _refused(name: str, instead: str, letter: str = "", argument: Argument = Argument.REQUIRED) -> SbatchOption:
    return SbatchOption(name, letter, argument, Use.REFUSED, instead)


def _of_role(name: str, letter: str = "", key: str = "") -> SbatchOption:
    return _refused(name, f"`{key or name}` in a role's table", letter)


def _verb(name: str, letter: str, does: str) -> SbatchOption:
    return SbatchOption(name, letter, Argument.NONE, Use.VERB, does)


_TABLE = (
    _key("account", "account", "A"),
    _kept("acctg-freq"),
    _key("array", "array", "a"),
    _kept("batch"),
    _kept("bb"),
    _kept("bbf"),
    _kept("begin", "b"),
    _key("chdir", "chdir", "D"),
    _kept("cluster-constraint"),
    _kept("clusters", "M"),
    _kept("comment"),
    _flag("consolidate-segments"),
    _of_role("constraint", "C"),
    _kept("container"),
    _kept("container-id"),
    _kept("container-type"),
    _kept("context"),
    _flag("contiguous"),
    _kept("core-spec", "S"),
    _kept("cores-per-socket"),
    _kept("cpu-freq"),
    _kept("cpus-per-gpu"),
    _of_role("cpus-per-task", "c"),
    _kept("deadline"),
    _kept("delay-boot"),
    _kept("dependency", "d"),
    _kept("distribution", "m"),
    _refused("error", "the run's folder of logs, where every task has a file", "e"),
    _kept("exclude", "x"),
    _key("exclusive", "exclusive", argument=Argument.OPTIONAL),
    _refused("export", "the table [env]; the job gets the environment that it is submitted from"),
    _refused("export-file", "the table [env]; the job gets the environment that it is submitted from"),
    _kept("extra"),
    _kept("extra-node-info", "B"),
    _optional("get-user-env"),
    _kept("gid"),
    _kept("gpu-bind"),
    _kept("gpu-freq"),
    _of_role("gpus", "G"),
    _of_role("gpus-per-node"),
    _of_role("gpus-per-socket", key="gpus-per-node"),
    _of_role("gpus-per-task"),
    _kept("gres"),
    _kept("gres-flags"),
    _refused("help", "slurm-tf submit --help", "h", Argument.NONE),
    _kept("hint"),
    _flag("hold", "H"),
    _verb("ignore-pbs", "", "nothing: the scripts of slurm-tf have no lines of PBS or LSF"),
    _kept("input", "i"),
    _key("job-name", "name", "J"),
    _kept("kill-on-invalid-dep", false="no"),
    _kept("licenses", "L"),
    _kept("mail-type"),
    _kept("mail-user"),
    _kept("mcs-label"),
    _of_role("mem"),
    _kept("mem-bind"),
    _of_role("mem-per-cpu"),
    _of_role("mem-per-gpu"),
    _kept("mem-update"),
    _kept("mincpus"),
    _kept("network"),
    _optional("nice"),
    _optional("no-kill", "k", false="off"),
    _flag("no-requeue"),
    _kept("nodefile", "F"),
    _kept("nodelist", "w"),
    _refused("nodes", "`ntasks-per-node` in a role's table: the number of nodes follows", "N"),
    _of_role("ntasks", "n", key="count"),
    _kept("ntasks-per-core"),
    _of_role("ntasks-per-gpu", key="gpus-per-task"),
    _of_role("ntasks-per-node"),
    _kept("ntasks-per-socket"),
    _optional("oom-kill-step", false="0"),
    _refused("open-mode", "nothing: logs are appended to, so that a requeue keeps them"),
    _refused("output", "the run's folder of logs", "o"),
    _flag("overcommit", "O"),
    _flag("oversubscribe", "s"),
    _verb("parsable", "", "prints the job id (id;cluster) alone"),
    _key("partition", "partition", "p"),
    _kept("power"),
    _kept("prefer"),
    _kept("priority"),
    _kept("profile"),
    _optional("propagate", false="NONE"),
    _key("qos", "qos", "q"),
    _verb("quiet", "Q", "prints warnings and errors alone"),
    _flag("reboot"),
    _optional("requeue"),
    _kept("reservation"),
    _kept("resources"),
    _optional("resv-ports"),
    _kept("segment"),
    _kept("signal"),
    _kept("sockets-per-node"),
    _flag("spread-job"),
    _flag("spread-segments"),
    _flag("stepmgr"),
    _kept("switches"),
    _verb("test-only", "", "is --dry-run"),
    _kept("thread-spec"),
    _kept("threads-per-core"),
    _key("time", "time", "t"),
    _kept("time-min"),
    _kept("tmp"),
    _kept("tres-bind"),
    _kept("tres-per-task"),
    _kept("uid"),
    _refused("usage", "slurm-tf submit --help", "", Argument.NONE),
    _flag("use-min-nodes"),
    _verb("verbose", "v", "is handed on to sbatch"),
    _refused("version", "slurm-tf --version", "V", Argument.NONE),
    _verb("wait", "W", "waits until the job has ended, and exits with its exit code"),
    _kept("wait-all-nodes", false="0"),
    _kept("wckey"),
    _refused("wrap", "the key `command`"),
)

OPTIONS: Mapping[str, SbatchOption] = {option.name: option for option in _TABLE}
# Other names that sbatch takes for the same option.
ALIASES: Mapping[str, str] = {
    "cluster": "clusters",
    "ntasks-per-tres": "ntasks-per-gpu",
    "tasks-per-node": "ntasks-per-node",
}
# Of a heterogeneous job, sbatch forgets these options before each component (reset_each_pass in slurm_opt.c): they are
# written into all of them. All others hold for the components that follow, or count once for the job; so does an option
# of a SPANK plugin: all components and their tasks have that of the first one (seen on 22.05.8).
OF_COMPONENT = frozenset({
    "consolidate-segments", "contiguous", "core-spec", "cores-per-socket", "cpu-freq", "cpus-per-gpu", "distribution",
    "extra-node-info", "gpu-bind", "gpu-freq", "gres", "gres-flags", "hint", "mem-bind", "mincpus", "network",
    "ntasks-per-core", "ntasks-per-socket", "overcommit", "oversubscribe", "resv-ports", "segment", "sockets-per-node",
    "spread-job", "spread-segments", "switches", "thread-spec", "threads-per-core", "tmp", "tres-bind", "tres-per-task",
    "use-min-nodes",
})  # fmt: skip
# Each component would need all of these nodes, and none could be given to two.
NOT_OF_COMPONENTS = ("nodefile", "nodelist")
# Options that are kept, but whose values are restricted.
RESTRICTED: Mapping[str, str] = {
    "gres": "GPUs are refused: `gpus-per-node` in a role's table",
    "tres-per-task": "GPUs are refused: `gpus-per-task` in a role's table",
    "signal": "HUP, TERM, USR1 or USR2",
}
