"""Whether the kernel killed something for its memory, from the files of both versions of control groups."""

from pathlib import Path

import pytest

from slurm_tf.launch.agent.memory_cgroup import MemoryCgroup

# a task of Slurm 22.05.8, which sees the hierarchy of another namespace as well
V1 = (
    "9:name=systemd:/\n4:memory:/slurm/uid_7/job_1/step_0/task_0\n0::/\n",
    "1455 1451 0:32 /../.. {mount} rw,relatime - cgroup cgroup rw,memory\n"
    "1469 1445 0:32 / {mount} rw,relatime - cgroup cgroup rw,memory\n"
    "1470 1445 0:33 / /nowhere rw,relatime - cgroup2 cgroup2 rw\n",
    {"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"},
    ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "9223372036854771712"),
)
V2 = (
    "0::/system.slice/slurmstepd.scope/job_1/step_0/user/task_0\n",
    "30 24 0:26 /system.slice {mount} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    {"memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill {kills}\noom_group_kill 0\n"},
    ("memory.max", "memory.peak", "max"),
)


@pytest.mark.parametrize("version", [V1, V2])
def test_what_the_kernel_says(version: tuple[str, str, dict[str, str], tuple[str, str, str]], tmp_path: Path) -> None:
    groups, mounts, events, (limit, peak, none) = version
    mount = tmp_path / "mount"
    own = groups.splitlines()[-2 if "memory" in groups else -1].rpartition(":")[2].removeprefix("/system.slice")
    task = Path(f"{mount}{own}")
    task.mkdir(parents=True)
    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "mountinfo").write_text(mounts.format(mount=mount))
    for name, text in events.items():
        (task / name).write_text(text.format(kills=3))
    for folder, most in ((task, none), (task.parent, "104857600"), (task.parent.parent, "209715200")):
        (folder / limit).write_text(f"{most}\n")
        (folder / peak).write_text("104857600\n")
    found = MemoryCgroup(str(tmp_path))
    assert (found.kills, found.memory) == (3, (104857600, 104857600))


def test_without_control_groups_nothing_is_known(tmp_path: Path) -> None:
    found = MemoryCgroup(str(tmp_path))
    assert (found.kills, found.memory) == (0, (None, None))
    (tmp_path / "cgroup").write_text("garbage\n4:memory:/x\n")
    (tmp_path / "mountinfo").write_text("garbage - x\n")
    assert MemoryCgroup(str(tmp_path)).kills == 0
