"""Writes the sandbox's configuration: Slurm's files, passwd, group and hosts."""

import glob
import os
import shutil
from pathlib import Path

from tests.sandbox.shape import GROUP_ID, USER_IDS, USERS, Shape, address

SLURM_CONF = """\
ClusterName=sandbox
SlurmctldHost=ctl
SlurmUser=slurm
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=/run/slurmctld
SlurmdSpoolDir=/run/slurmd/%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd/%n.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
ProctrackType=proctrack/{proctrack}
# not task/affinity: it refuses jobs that use all CPUs of a node with more CPUs than this machine has
TaskPlugin=task/{task}
SlurmdParameters=config_overrides
TmpFS=/run/node
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=300
TCPTimeout=2
MessageTimeout=10
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=20000,batch_sched_delay=1,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
PriorityType=priority/multifactor
PriorityWeightQOS=1000
PriorityWeightAge=10
PreemptType=preempt/qos
PreemptMode=REQUEUE
JobRequeue=1
JobSubmitPlugins=lua
CliFilterPlugins=lua
TaskProlog=/etc/slurm/taskprolog.sh
PrologFlags=Alloc
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
AccountingStorageEnforce=associations,limits,qos,safe
AccountingStoreFlags=job_comment,job_env,job_script
GresTypes=gpu,nvme
Licenses=matlab:2
AccountingStorageTRES={tres}
NodeName=node[1-{nodes}] CPUs={cpus} RealMemory={memory} {gres}{features} State=UNKNOWN
"""

# the plugin that gives srun --container-image (pyxis), where this machine has it
PYXIS = ("/usr/lib/*/slurm*/spank_pyxis.so", "/usr/lib/slurm/spank_pyxis.so", "/usr/local/lib/slurm/spank_pyxis.so")

NVME = 200  # of a gres beside GPUs, on each node

CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=no
ConstrainRAMSpace=yes
ConstrainDevices=yes
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost=ctl
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=private-network
StorageLoc=slurm_acct_db
LogFile={log}/slurmdbd.log
PidFile=/run/slurmdbd.pid
DebugLevel=verbose
"""

# as containers.html of 22.05 has it, without systemd, and with exec: a shell in between would end by the signals that
# are for the container
OCI_CONF = """\
RunTimeQuery="crun --root=/tmp --cgroup-manager=disabled state %n.%u.%j.%s.%t"
RunTimeKill="crun --root=/tmp --cgroup-manager=disabled kill -a %n.%u.%j.%s.%t"
RunTimeDelete="crun --root=/tmp --cgroup-manager=disabled delete --force %n.%u.%j.%s.%t"
RunTimeRun="exec crun --root=/tmp --cgroup-manager=disabled run --bundle=%b %n.%u.%j.%s.%t"
"""

JOB_SUBMIT_LUA = """\
function slurm_job_submit(job, partitions, uid)
   if job.comment == "reject" then
      slurm.log_user("job_submit.lua rejects this job")
      return slurm.ERROR
   end
   if job.comment == "hello" then slurm.log_user("job_submit.lua says hello") end
   return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""

CLI_FILTER_LUA = """\
function slurm_cli_setup_defaults(options, early) return slurm.SUCCESS end
function slurm_cli_pre_submit(options, offset)
   if options["comment"] == "cli-reject" then
      slurm.log_error("cli_filter.lua rejects this job")
      return slurm.ERROR
   end
   if options["comment"] == "cli-hello" then slurm.log_info("cli_filter.lua says hello") end
   return slurm.SUCCESS
end
function slurm_cli_post_submit(offset, job, step) return slurm.SUCCESS end
"""

TASK_PROLOG = """\
#!/bin/sh
echo "export SANDBOX_TASK_PROLOG=$(hostname)-$SLURM_PROCID"
"""


def slurm_conf(shape: Shape, log: Path) -> str:
    """Return the text of slurm.conf."""
    types = [kind for kind, _ in shape.gpu_types]
    text = SLURM_CONF.format(
        log=log,
        proctrack=shape.proctrack,
        task="cgroup" if shape.proctrack == "cgroup" else "none",
        tres=",".join(["gres/gpu", *(f"gres/gpu:{kind}" for kind in types)]),
        nodes=shape.nodes,
        cpus=shape.cpus,
        memory=shape.memory,
        features=f" Features={shape.features}" if shape.features else "",
        gres="Gres=" + ",".join([*(f"gpu:{kind}:{count}" for kind, count in shape.gpu_types), f"nvme:{NVME}"]),
    )
    for partition in shape.partitions:
        nodes = "" if "Nodes=" in partition else " Nodes=ALL"
        text += f"PartitionName={partition}{nodes} State=UP\n"
    return text + "".join(f"{line}\n" for line in shape.slurm_conf)


def gres_conf(shape: Shape) -> str:
    """Return the text of gres.conf: nvme, and /dev/nvidia0 and following, in the order of the GPU types."""
    text, first = f"NodeName=node[1-{shape.nodes}] Name=nvme Count={NVME}\n", 0
    for kind, count in shape.gpu_types:
        text += f"NodeName=node[1-{shape.nodes}] Name=gpu Type={kind} File=/dev/nvidia[{first}-{first + count - 1}]\n"
        first += count
    return text


def write(folder: Path, shape: Shape) -> None:
    """Write etc/ in the sandbox's folder, and make the home folders and the shared folder."""
    log, etc, slurm = folder / "log", folder / "etc", folder / "etc" / "slurm"
    for path in (log, slurm, folder / "pids", folder / "home", folder / "shared"):
        path.mkdir(parents=True)
    (folder / "shared").chmod(0o1777)
    texts = {
        "slurm.conf": slurm_conf(shape, log),
        "gres.conf": gres_conf(shape),
        "cgroup.conf": CGROUP_CONF,
        # PMIx makes a folder of the same name on each node; each node has its own /run/node
        "mpi.conf": "PMIxCliTmpDirBase=/run/node\n",
        "slurmdbd.conf": SLURMDBD_CONF.format(log=log),
        "job_submit.lua": JOB_SUBMIT_LUA,
        "cli_filter.lua": CLI_FILTER_LUA,
        "taskprolog.sh": TASK_PROLOG,
    }
    if shape.oci:
        texts["oci.conf"] = OCI_CONF
    pyxis = [path for pattern in PYXIS for path in glob.glob(pattern)]
    if pyxis:
        texts["plugstack.conf"] = f"required {pyxis[0]}\n"
    for name, text in texts.items():
        (slurm / name).write_text(text)
    (slurm / "taskprolog.sh").chmod(0o755)
    (slurm / "slurmdbd.conf").chmod(0o600)
    shutil.chown(slurm / "slurmdbd.conf", "slurm", "slurm")
    for name in ("slurmctld.log", "slurmdbd.log"):
        (log / name).touch()
        shutil.chown(log / name, "slurm", "slurm")
    _write_users(folder)
    hosts = ["127.0.0.1 localhost", *(f"{address(host)} {host} {host}-ib0" for host in ("ctl", *shape.names))]
    (etc / "hosts").write_text("".join(f"{line}\n" for line in hosts))
    shape.write(folder)


def _write_users(folder: Path) -> None:
    passwd = Path("/etc/passwd").read_text()
    for user in USERS:
        home = folder / "home" / user
        passwd += f"{user}:x:{USER_IDS[user]}:{GROUP_ID}::{home}:/bin/bash\n"
        home.mkdir(mode=0o700)
        os.chown(home, USER_IDS[user], GROUP_ID)
    (folder / "etc" / "passwd").write_text(passwd)
    (folder / "etc" / "group").write_text(Path("/etc/group").read_text() + f"research:x:{GROUP_ID}:\n")
