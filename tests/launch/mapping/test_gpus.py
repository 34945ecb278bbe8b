"""Which devices each task is to see, and bindings that give several tasks the same ones."""

from collections.abc import Mapping, Sequence

import pytest

from slurm_tf.errors import TopologyError
from slurm_tf.launch.mapping import cluster, gpus
from slurm_tf.launch.mapping.allocation import Allocation
from slurm_tf.launch.transport.messages import Report
from slurm_tf.run.settings import AS_GIVEN, RoleSettings

ALL = ("0", "1", "2", "3")
EIGHT_OF_FOUR = "4 tasks on n1 see 8 GPUs in all, and the job has 4 there"
NO_GPUS: Mapping[str, int] = {}


def bound(binding: str, seen: Sequence[str], on_node: int, node: str = "n1", first: int = 0) -> list[Report]:
    """Return what the tasks of a node report, of which each sees `seen` devices, as Slurm 22.05.8 tells them."""
    found = []
    for local, names in enumerate(seen):
        environ = {
            "SLURM_STEP_ID": "0", "SLURM_PROCID": str(first + local), "SLURM_LOCALID": str(local),
            "SLURM_NTASKS": str(len(seen)), "SLURMD_NODENAME": node, "CUDA_VISIBLE_DEVICES": names,
            "SLURM_GPUS_ON_NODE": str(on_node), **({"SLURMD_TRES_BIND": f"gpu:{binding}"} if binding else {}),
        }  # fmt: skip
        each = Allocation.from_environ(environ)
        found.append(
            Report(
                each.rank, node, node, 20000 + each.rank, each.gpus, each.gpus_bound,
                gpu_places=each.gpu_places, gpus_on_node=each.gpus_on_node, gpu_binding=each.gpu_binding,
            )
        )  # fmt: skip
    return found


def given(reports: Sequence[Report], number: int | None, sharing: str = "split") -> list[gpus.Devices]:
    formed = cluster.form(reports, [RoleSettings("worker", len(reports), number)], sharing)
    return [task.gpus for task in formed.tasks]


@pytest.mark.parametrize(
    ("binding", "seen", "on_node", "number", "found"),
    [
        ("mask_gpu:0x3,0x3,0xc,0xc", ["0,1"] * 4, 4, 1, EIGHT_OF_FOUR),
        # without device cgroups the names are the node's
        ("mask_gpu:0x3,0x3,0xc,0xc", ["0,1", "0,1", "2,3", "2,3"], 4, 1, EIGHT_OF_FOUR),
        ("closest", ["0,1"] * 4, 4, None, EIGHT_OF_FOUR),
        ("", ["0,1"] * 4, 4, 1, EIGHT_OF_FOUR),
        ("map_gpu:0,0,1,1", ["0"] * 4, 4, 1, "4 tasks on n1 are bound to the same GPUs"),
        ("map_gpu:0*2,1*2", ["0"] * 4, 4, 1, "4 tasks on n1 are bound to the same GPUs"),
        ("map_gpu:1", ["0"] * 2, 4, 1, "2 tasks on n1 are bound to the same GPUs"),
        ("mask_gpu:0x1,0x3", ["0", "0,1"], 4, None, "2 tasks on n1 are bound to the same GPUs"),
        ("single:2", ["0"] * 4, 4, 1, "4 tasks on n1 are bound to the same GPUs"),
        ("single:1", ["0"] * 3, 2, 1, "3 tasks on n1 see 3 GPUs in all, and the job has 2 there"),
        ("mask_gpu:0x7,0x8", ["0,1,2", "0"], 4, None, "rank 0 on n1 sees more GPUs than its share of the 4 there"),
        ("mask_gpu:0x3,0xc", ["0,1"] * 2, 4, 1, "rank 0 on n1 sees more GPUs than its share of the 4 there"),
        ("mask_gpu:0x3,0x3", ["0,1"] * 2, 2, 1, "2 tasks on n1 see 4 GPUs in all, and the job has 2 there"),
    ],
)
def test_tasks_that_are_bound_to_the_same_gpus_do_not_start(
    binding: str, seen: list[str], on_node: int, number: int | None, found: str
) -> None:
    reports = bound(binding, seen, on_node)
    with pytest.raises(TopologyError) as error:
        given(reports, number)
    assert error.value.exit_code == 65
    assert error.value.found.startswith(f"{found}: rank 0 sees {seen[0]}; rank 1 sees {seen[1]}")
    assert error.value.found.endswith(f"(bound by gpu:{binding})") is bool(binding)
    share = max(1, on_node // len(seen))
    assert error.value.do.startswith(f"ask for gpus-per-task = {share}, and leave out gpu-bind (SBATCH_GPU_BIND, ")
    # a program that divides them itself is left alone, and so is a job in which no role says a number
    assert given(reports, number, "all") == given(reports, number, AS_GIVEN) == [None] * len(seen)


@pytest.mark.parametrize(
    ("binding", "seen", "on_node", "number", "slices"),
    [
        ("mask_gpu:0x3,0xc", ["0,1"] * 2, 4, 2, [None] * 2),
        ("map_gpu:0,1,2,3", ["0"] * 4, 4, 1, [None] * 4),
        ("map:3,2,1,0", ["0"] * 4, 4, 1, [None] * 4),
        ("single:1", ["0"] * 4, 4, 1, [None] * 4),
        ("per_task:1", ["0"] * 2, 2, 1, [None] * 2),
        # each sees all of them: they are divided
        ("closest", ["0,1"] * 2, 2, 1, [("0",), ("1",)]),
        ("", ["0,1,2,3"] * 2, 4, 2, [("0", "1"), ("2", "3")]),
        # one task alone: Slurm binds nothing
        ("", ["0,1"], 2, 1, [("0",)]),
        ("mask_gpu:0x3", ["0,1"], 4, 2, [("0", "1")]),
    ],
)
def test_tasks_with_gpus_of_their_own_keep_them(
    binding: str, seen: list[str], on_node: int, number: int | None, slices: list[gpus.Devices]
) -> None:
    assert given(bound(binding, seen, on_node), number) == slices


def test_a_binding_that_names_no_device_is_named() -> None:
    """With --gpu-bind=none Slurm sets no list (22.05.8)."""
    reports = [Report(rank, "n1", "n1", rank, None, gpus_on_node=2, gpu_binding="gpu:none") for rank in range(2)]
    with pytest.raises(TopologyError, match=r"rank 0 on n1 sees 0 GPUs \(bound by gpu:none\).*\n.*leave out gpu-bind"):
        given(reports, 1)
    assert given(reports, 1, "all") == [None, None]


# --- devices by index ---


def test_devices_by_index_are_divided_among_the_tasks_of_a_node_whatever_their_role() -> None:
    none = [Report(rank, f"n{rank % 2}", "n", rank, None, roles=role) for rank, role in enumerate("ccwwpp")]
    roles = [RoleSettings("c", 2, 1, node_gpus=4), RoleSettings("w", 2, 3, node_gpus=4), RoleSettings("p", 2)]
    numbers = {role.name: role.node_gpus for role in roles}
    reports = [gpus.by_index(report, numbers[report.roles]) for report in none]
    assert [report.gpus for report in reports] == [ALL] * 4 + [None] * 2
    formed = cluster.form(reports, roles)
    assert [task.gpus for task in formed.tasks] == [("0",)] * 2 + [("1", "2", "3")] * 2 + [()] * 2
    assert cluster.unused_gpus(formed, dict(enumerate(reports)), roles, {}) == ""
    with pytest.raises(TopologyError, match="2 GPU tasks on n0 share 4 GPUs; needed 6"):
        cluster.form(reports, [RoleSettings("c", 2, 3, node_gpus=4), *roles[1:]])


def test_what_a_site_says_of_the_devices_counts() -> None:
    report = Report(0, "n", "n", 1, ("2", "3"))
    assert gpus.by_index(report, 4) == report
    assert gpus.by_index(Report(0, "n", "n", 1, None), 0).gpus is None


def test_without_a_coordinator_an_unset_variable_stays_unset() -> None:
    roles = [RoleSettings("worker", 2, None), RoleSettings("ps", 1, 0)]
    unset = [Report(rank, "n1", "n1", rank, None) for rank in range(3)]
    assert [task.gpus for task in cluster.form(unset, roles, gpus_where_found=True).tasks] == [None] * 3
    mixed = [*unset[:1], Report(1, "n2", "n2", 1, ("0",)), Report(2, "n1", "n1", 2, None)]
    assert [task.gpus for task in cluster.form(mixed, roles, gpus_where_found=True).tasks] == [None, ("0",), ()]
    empty = [Report(rank, "n1", "n1", rank, ()) for rank in range(3)]
    assert [task.gpus for task in cluster.form(empty, roles, gpus_where_found=True).tasks] == [()] * 3


# --- GPUs that no task uses ---


def unused(
    reports: Sequence[Report], number: int | None, held: Mapping[str, int] = NO_GPUS, sharing: str = "split"
) -> str:
    roles = [RoleSettings("worker", len(reports), number)]
    return cluster.unused_gpus(cluster.form(reports, roles, sharing), dict(enumerate(reports)), roles, held)


def test_gpus_that_the_job_pays_for_and_no_task_uses() -> None:
    one = bound("", ["0,1"], 2)
    assert unused(one, 1) == (
        "warning: of the job's GPUs, all of which are paid for, some are not used: it has 2 GPUs on n1 and its tasks "
        "use 1; ask for as many as the tasks use (gpus-per-task, gpus-per-node), or start more tasks (count, "
        "ntasks-per-node)"
    )
    nodes = [
        *bound("", ["0,1,2"] * 2, 3, "n1"),
        *bound("", ["0,1,2"] * 2, 3, "n2", 2),
        *bound("", ["0,1,2"], 3, "n3", 4),
    ]
    assert "has 3 GPUs on n1, n2 and its tasks use 2; 3 GPUs on n3 and its tasks use 1;" in unused(nodes, 1)
    # an exclusive job holds all GPUs of its nodes, and its step has those that it asked for
    assert "has 4 GPUs on n1 and its tasks use 1;" in unused(bound("", ["0"], 1), 1, {"n1": 4})
    silent = [Report(rank, "n1", "n1", rank, None) for rank in range(2)]
    assert "has 4 GPUs on n1 and its tasks use 0;" in unused(silent, None, {"n1": 4}, AS_GIVEN)


def test_nothing_is_said_of_gpus_that_are_all_used() -> None:
    assert unused(bound("", ["0,1"] * 2, 2), 1, {"n1": 2}) == ""
    assert unused(bound("", ["0,1"] * 2, 2), 1, sharing="all") == ""
    assert unused(bound("per_task:1", ["0"] * 2, 2), 1) == ""
    assert unused(bound("", ["0,1,2"] * 2, 3), None) == ""
    assert unused([Report(0, "n1", "n1", 1)], 0) == ""
    # with --gpu-bind=none the tasks see all, and no variable says so
    free = [Report(rank, "n1", "n1", rank, None, gpus_on_node=2, gpu_binding="gpu:none") for rank in range(2)]
    assert unused(free, None, {"n1": 2}, AS_GIVEN) == ""
