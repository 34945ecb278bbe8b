"""The mapping: every failing case of TensorFlow's SlurmClusterResolver, and properties for any allocation."""

import json
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.errors import TopologyError
from slurm_tf.launch.mapping import cluster
from slurm_tf.launch.mapping.allocation import Allocation
from slurm_tf.launch.mapping.cluster import Cluster
from slurm_tf.launch.transport.messages import Report
from slurm_tf.run.settings import AS_GIVEN, RoleSettings
from tests.launch.mapping.test_allocation import CASES


def reports(name: str, roles: Sequence[str] = ()) -> list[Report]:
    """Return what the tasks of a recorded step report, each with a port of its own."""
    found = []
    for task in (Allocation.from_environ(environ) for environ in CASES[name]["tasks"]):
        role = roles[task.rank] if roles else ""
        found.append(Report(task.rank, task.node, task.node, 20000 + task.rank, task.gpus, task.gpus_bound, role))
    return found


def workers(count: int, gpus: int | None = 0) -> list[RoleSettings]:
    return [RoleSettings("worker", count, gpus)]


def gpus_of(formed: Cluster) -> list[tuple[str, ...] | None]:
    return [task.gpus for task in formed.tasks]


# --- what SlurmClusterResolver (TensorFlow 2.15 to 2.21) gets wrong, by its number in the list of its failures ---


def test_1_hosts_are_in_rank_order_across_a_digit_boundary() -> None:
    formed = cluster.form(reports("digit-boundary"), workers(4))
    assert formed.hosts == {"worker": ("node8:20000", "node9:20001", "node10:20002", "node11:20003")}


def test_1_twelve_unpadded_nodes() -> None:
    formed = cluster.form(reports("twelve-nodes"), workers(12))
    assert [task.node for task in formed.tasks] == [f"node{number}" for number in range(1, 13)]


def test_3_a_node_without_gpus_needs_none() -> None:
    formed = cluster.form(reports("cpu-one-node"), workers(2))
    assert gpus_of(formed) == [(), ()]


def test_3_an_empty_list_of_devices_is_no_device() -> None:
    empty = [Report(rank, "n1", "n1", 20000 + rank, ()) for rank in range(2)]
    assert gpus_of(cluster.form(empty, workers(2))) == [(), ()]


def test_4_more_tasks_than_gpus_where_some_need_none() -> None:
    shared = [Report(rank, "n1", "n1", 20000 + rank, ("0", "1")) for rank in range(3)]
    formed = cluster.form(shared, [RoleSettings("worker", 2, 1), RoleSettings("ps", 1, 0)])
    assert gpus_of(formed) == [("0",), ("1",), ()]


def test_5_devices_bound_to_each_task_stay_as_they_are() -> None:
    assert gpus_of(cluster.form(reports("gpus-per-task-1"), workers(4, 1))) == [None] * 4


def test_6_names_are_those_that_slurm_gave() -> None:
    for names in (("2", "3"), ("GPU-a", "GPU-b"), ("MIG-a/1/0", "MIG-a/2/0")):
        shared = [Report(rank, "n1", "n1", 20000 + rank, names) for rank in range(2)]
        assert gpus_of(cluster.form(shared, workers(2, 1))) == [names[:1], names[1:]]


def test_7_forming_twice_gives_the_same() -> None:
    shared = reports("gpus-per-node-2")
    assert cluster.form(shared, workers(4, None)) == cluster.form(shared, workers(4, None))


@pytest.mark.parametrize("name", ["cyclic", "plane-2", "arbitrary", "uneven-packed", "gpus-4-uneven"])
def test_8_any_distribution(name: str) -> None:
    environs = CASES[name]["tasks"]
    formed = cluster.form(reports(name), workers(len(environs), None if "gpus" in name else 0))
    assert [task.node for task in formed.tasks] == [environ["SLURMD_NODENAME"] for environ in environs]
    assert list(formed.hosts["worker"]) == [f"{task.node}:{20000 + task.rank}" for task in formed.tasks]


def test_10_components_of_a_heterogeneous_job() -> None:
    roles = [RoleSettings("chief", 1), RoleSettings("worker", 4, None), RoleSettings("ps", 2)]
    names = ["chief", *["worker"] * 4, *["ps"] * 2]
    formed = cluster.form(reports("het-ps-cpu-worker-gpu", names), roles)
    assert [task.name for task in formed.tasks] == [
        "chief:0", "worker:0", "worker:1", "worker:2", "worker:3", "ps:0", "ps:1"
    ]  # fmt: skip
    assert [task.node for task in formed.tasks] == ["node1", "node2", "node2", "node3", "node3", "node4", "node4"]
    assert gpus_of(formed) == [(), ("0",), ("1",), ("0",), ("1",), (), ()]


def test_11_a_wrong_number_of_tasks_says_both() -> None:
    with pytest.raises(TopologyError, match="ranks 0,1 reported; needed each of 0 to 2 once"):
        cluster.form(reports("cpu-one-node"), workers(3))


def test_12_the_evaluator_is_outside_of_the_cluster() -> None:
    three = [Report(rank, "n1", "n1", 20000 + rank) for rank in range(3)]
    formed = cluster.form(three, [RoleSettings("worker", 2), RoleSettings("evaluator", 1)])
    assert formed.hosts == {"worker": ("n1:20000", "n1:20001")}
    config = json.loads(cluster.tf_config(formed.hosts, "evaluator", 0))
    assert config == {
        "cluster": {"worker": ["n1:20000", "n1:20001"]},
        "task": {"type": "evaluator", "index": 0},
    }


def test_14_uneven_nodes_with_enough_gpus() -> None:
    assert gpus_of(cluster.form(reports("gpus-4-uneven"), workers(4, None))) == [("0",), ("1",), ("2",), ("0",)]


# --- GPUs ---


def test_left_over_gpus_go_to_the_first_tasks() -> None:
    assert gpus_of(cluster.form(reports("gres-3-two-tasks"), workers(2, None))) == [("0", "1"), ("2",)]


def test_fewer_gpus_than_tasks_are_refused_with_both_numbers() -> None:
    with pytest.raises(
        TopologyError, match=r"2 GPU tasks on node1 share 1 GPUs; needed 2 GPUs .*\nHINT: .*gpu-sharing"
    ):
        cluster.form(reports("gres-1-shared"), workers(2, None))


def test_sharing_all_leaves_every_task_what_it_sees() -> None:
    assert gpus_of(cluster.form(reports("gres-1-shared"), workers(2, None), "all")) == [None, None]


def test_where_no_role_says_a_number_slurms_list_stays() -> None:
    for name in ("gres-1-shared", "gres-2", "cpu-one-node"):
        assert set(gpus_of(cluster.form(reports(name), workers(len(reports(name))), AS_GIVEN))) == {None}


def test_a_task_that_asked_for_more_than_it_sees() -> None:
    with pytest.raises(TopologyError, match=r"rank 0 on node1 sees 0 GPUs; needed 2, as its role asked for"):
        cluster.form(reports("cpu-one-node"), workers(2, 2))


def test_different_names_are_kept_and_overlapping_ones_refused() -> None:
    # without device cgroups a bound task sees names of its own
    own = [Report(0, "n1", "n1", 1, ("0",)), Report(1, "n1", "n1", 2, ("1",))]
    assert gpus_of(cluster.form(own, workers(2, 1))) == [None, None]
    overlapping = [Report(0, "n1", "n1", 1, ("0", "1")), Report(1, "n1", "n1", 2, ("1", "2"))]
    with pytest.raises(TopologyError, match="overlapping"):
        cluster.form(overlapping, workers(2, 1))


def test_one_task_gets_as_many_as_it_asked_for() -> None:
    alone = [Report(0, "n1", "n1", 1, ("0", "1", "2"))]
    assert gpus_of(cluster.form(alone, workers(1, 2))) == [("0", "1")]
    assert gpus_of(cluster.form(alone, workers(1, None))) == [("0", "1", "2")]


def test_gpus_where_there_are_some() -> None:
    mixed = [Report(0, "cpu", "cpu", 1), Report(1, "gpu", "gpu", 2, ("0", "1")), Report(2, "gpu", "gpu", 3, ("0", "1"))]
    formed = cluster.form(mixed, workers(3, None), gpus_where_found=True)
    assert gpus_of(formed) == [(), ("0",), ("1",)]
    with pytest.raises(TopologyError, match="rank 0 on cpu sees 0 GPUs"):
        cluster.form(mixed, workers(3, None))
    with pytest.raises(TopologyError, match="3 GPU tasks on n1 share 1 GPUs"):
        cluster.form([Report(r, "n1", "n1", r, ("0",)) for r in range(3)], workers(3, None), gpus_where_found=True)


# --- the spec ---


def test_flags_of_the_programs_of_2016() -> None:
    three = [Report(rank, "n1", "n1", 20000 + rank) for rank in range(3)]
    formed = cluster.form(three, [RoleSettings("worker", 2), RoleSettings("ps", 1)])
    assert cluster.flags(formed.hosts, "worker", 1) == [
        "--ps_hosts=n1:20002", "--worker_hosts=n1:20000,n1:20001", "--job_name=worker", "--task_index=1"
    ]  # fmt: skip


def test_dtensors_clients_are_the_chief_and_the_workers() -> None:
    hosts = {"chief": ("n1:1",), "worker": ("n1:2", "n2:1")}
    clients = {
        (role, index): cluster.dtensor(hosts, role, index)
        for role, index in [("chief", 0), ("worker", 0), ("worker", 1)]
    }
    assert [each["DTENSOR_CLIENT_ID"] for each in clients.values()] == ["0", "1", "2"]
    for each in clients.values():
        assert (each["DTENSOR_JOBS"], each["DTENSOR_NUM_CLIENTS"]) == ("n1:1,n1:2,n2:1", "3")
        assert each["DTENSOR_JOB_NAME"] == "worker"
    assert cluster.dtensor({"worker": ("n1:1",)}, "worker", 0)["DTENSOR_CLIENT_ID"] == "0"
    assert cluster.dtensor(hosts, "evaluator", 0) == {}
    assert cluster.dtensor({**hosts, "ps": ("n1:3",)}, "worker", 0) == {}


def test_an_ipv6_address_is_bracketed() -> None:
    assert cluster.address("fe80::1", 5) == "[fe80::1]:5"


def test_a_spec_that_execve_cannot_take_is_refused_with_both_numbers() -> None:
    many = [
        Report(rank, "n", f"node-with-a-long-name-{rank:05}.cluster.university.example", 20000) for rank in range(2500)
    ]
    formed = cluster.form(many, workers(2500))
    with pytest.raises(TopologyError, match=r"TF_CONFIG for 2500 tasks takes 1\d{5} bytes; needed at most 131072"):
        formed.check_size()
    cluster.form(many[:1500], workers(1500)).check_size()


def test_two_tasks_at_one_address_are_refused() -> None:
    with pytest.raises(TopologyError, match="several tasks reported the address n1:5"):
        cluster.form([Report(0, "n1", "n1", 5), Report(1, "n2", "n1", 5)], workers(2))


@st.composite
def allocations(draw: st.DrawFn) -> tuple[list[Report], list[RoleSettings]]:
    """Any allocation: nodes with some tasks each in any order of ranks, GPUs shared by the tasks of each node."""
    tasks_on = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    nodes = [f"n{number}" for number, tasks in enumerate(tasks_on, 7) for _ in range(tasks)]
    nodes = draw(st.permutations(nodes))
    spare = draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["{}", "GPU-{}", "MIG-{}/1/0"]))
    counts = Counter(nodes)
    names = {node: tuple(kind.format(number) for number in range(counts[node] + spare)) for node in counts}
    with_gpus = draw(st.booleans())
    cut = draw(st.integers(1, len(nodes)))
    roles = [RoleSettings("worker", cut, None if with_gpus else 0), RoleSettings("ps", len(nodes) - cut, 0)]
    port = draw(st.integers(1024, 60000))
    found = [Report(rank, node, node, port + rank, names[node] if with_gpus else ()) for rank, node in enumerate(nodes)]
    return draw(st.permutations(found)), roles


@given(allocations(), st.randoms())
def test_for_any_allocation(case: tuple[list[Report], list[RoleSettings]], random: Random) -> None:
    came, roles = case
    formed = cluster.form(came, roles)
    by_rank = {report.rank: report for report in came}
    # ranks, names and addresses are unique, and as many as tasks
    assert [task.rank for task in formed.tasks] == list(range(len(came)))
    assert len({task.name for task in formed.tasks}) == len({task.address for task in formed.tasks}) == len(came)
    assert sum(map(len, formed.hosts.values())) == len(came)
    for task in formed.tasks:
        # each task is where it said it is, and finds itself in the spec
        assert task.node == by_rank[task.rank].node
        assert formed.hosts[task.role][task.index] == task.address
    # every task is told the same, in whatever order they came
    shuffled = list(came)
    random.shuffle(shuffled)
    assert cluster.form(shuffled, roles) == formed
    specs = {json.dumps(json.loads(cluster.tf_config(formed.hosts, t.role, t.index))["cluster"]) for t in formed.tasks}
    assert len(specs) == 1
    # no device of a node is given twice; with devices, each GPU task has one, and none is left over
    for node in {task.node for task in formed.tasks}:
        given_names = [name for task in formed.tasks if task.node == node for name in task.gpus or ()]
        assert len(set(given_names)) == len(given_names)
        gpu_tasks = [
            task for task in formed.tasks if task.node == node and task.role == "worker" and roles[0].gpus is None
        ]
        assert all(task.gpus for task in gpu_tasks)
        if gpu_tasks:
            assert set(given_names) == set(by_rank[gpu_tasks[0].rank].gpus or ())
