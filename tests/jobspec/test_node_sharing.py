"""Roles with different needs on the nodes of one job: where each runs, what the nodes hold, which cannot share them."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.jobspec import configuration
from slurm_tf.jobspec import plan as plan_module
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm.node_sizes import NodeSize, PartitionNodes
from tests.jobspec.test_plan import HEAD, PS, options, site

FOUR = (
    HEAD + 'strategy = "ps"\n'
    "[roles.chief]\nmem = '1G'\n"
    "[roles.worker]\ncount = 2\ncpus-per-task = 3\nmem = '4G'\ngpus-per-task = 'a100:1'\n{worker}\n"
    "[roles.ps]\ncpus-per-task = 2\nmem = '2G'\n[roles.evaluator]\nmem = '512M'\ngpus-per-node = 'a100:1'\n"
)
Sized = Callable[..., Plan]


@pytest.fixture
def sized(job_file: Callable[[str], Path]) -> Sized:
    """Return the plan of a job on nodes of these sizes."""

    def fitted(text: str, *sizes: NodeSize, site: str = "generic", memory: int | None = None) -> Plan:
        job = configuration.load(job_file(text), {}, site)
        return plan_module.fit(job, RunFolder("/runs/run-1"), nodes_of=lambda _: PartitionNodes(sizes, memory))

    return fitted


def size(nodes: int = 4, cpus: int = 64, memory: int = 65536, gpus: int = 4, threads: int = 1) -> NodeSize:
    return NodeSize(nodes, cpus, memory, gpus, threads)


def asked(plan: Plan, *names: str) -> dict[str, str | None]:
    (component,) = plan.components
    return {name: value for name, value in component.options if name in names}


def steps(plan: Plan) -> dict[str, dict[str, str | None]]:
    return {step.name: dict(step.srun) for step in plan.layout.steps}


def test_one_node_holds_the_exact_sum(sized: Sized) -> None:
    plan = sized(FOUR.format(worker=""), size())
    assert asked(plan, "nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "mem", "gpus-per-node") == {
        "nodes": "1", "ntasks": "1", "ntasks-per-node": "1", "cpus-per-task": "10", "mem": "7680M",
        "gpus-per-node": "a100:3",
    }  # fmt: skip
    assert steps(plan) == {
        "chief": {"nodes": "1", "relative": "0", "ntasks": "1", "cpus-per-task": "1", "mem": "1G", "gres": "none"},
        "worker": {
            "nodes": "1", "relative": "0", "ntasks": "2", "cpus-per-task": "3", "mem": "4G", "gpus-per-task": "a100:1"
        },
        "ps": {"nodes": "1", "relative": "0", "ntasks": "1", "cpus-per-task": "2", "mem": "2G", "gres": "none"},
        "evaluator": {
            "nodes": "1", "relative": "0", "ntasks": "1", "cpus-per-task": "1", "mem": "512M", "gres": "gpu:a100:1"
        },
    }  # fmt: skip
    assert [step.first_rank for step in plan.layout.steps] == [0, 1, 3, 4]
    assert dict(plan.layout.srun)["exact"] is None
    (component,) = plan.components
    assert (component.amounts.cpus, component.amounts.memory, component.amounts.gpus) == (10, 7680, 3)


def test_several_nodes_each_hold_the_largest_share(sized: Sized) -> None:
    plan = sized(FOUR.format(worker="ntasks-per-node = 1"), size())
    assert asked(plan, "nodes", "cpus-per-task", "mem", "gpus-per-node") == {
        "nodes": "2", "cpus-per-task": "5", "mem": "6G", "gpus-per-node": "a100:2",
    }  # fmt: skip
    found = {name: (step["nodes"], step["relative"]) for name, step in steps(plan).items()}
    assert found == {"chief": ("1", "1"), "worker": ("2", "0"), "ps": ("1", "0"), "evaluator": ("1", "1")}
    assert steps(plan)["worker"]["ntasks-per-node"] == "1"


@pytest.mark.parametrize(
    ("sizes", "nodes"),
    [
        ((), "1"),  # not known
        ((size(cpus=10),), "1"),
        ((size(cpus=9),), "2"),
        ((size(memory=7679),), "2"),
        ((size(gpus=2),), "2"),
        ((size(cpus=3, memory=4096, gpus=1),), "4"),
        ((size(nodes=1), size(cpus=9)), "1"),
        # no node holds one of them: it is for sbatch to say so
        ((size(cpus=2),), "1"),
    ],
)
def test_as_few_nodes_as_hold_the_roles(sizes: tuple[NodeSize, ...], nodes: str, sized: Sized) -> None:
    text = FOUR.format(worker="").replace("'4G'", "'2G'") if nodes == "4" else FOUR.format(worker="")
    assert asked(sized(text, *sizes), "nodes")["nodes"] == nodes


def test_only_nodes_that_the_job_may_have_count(sized: Sized) -> None:
    small = replace(size(cpus=9), features=frozenset({"ib"}))
    text = re.sub(r"(\[roles.*\]\n)", r"\1constraint = 'ib'\n", FOUR.format(worker=""))
    assert asked(sized(text, size(), small), "nodes") == {"nodes": "2"}
    assert asked(sized(text.replace("'ib'", "'ib|avx'"), size(), small), "nodes") == {"nodes": "1"}
    other = text.replace("constraint = 'ib'\n", "") + "[sbatch]\nclusters = 'far'\n"
    assert asked(sized(other, small), "nodes") == {"nodes": "1"}


def test_large_jobs_are_placed_quickly(sized: Sized) -> None:
    text = PS.format(chief="", worker="cpus-per-task = 16", ps="count = 300\ncpus-per-task = 2")
    plan = sized(text.replace("count = 3\n", "count = 3000\n"), size(nodes=2000, cpus=128))
    assert plan.layout.sharing is not None
    assert 380 <= plan.layout.sharing.nodes <= 430  # 3000 * 16 + 300 * 2 + 1 CPUs are on 380 nodes at least


def test_whole_cores_are_asked_for_where_a_core_has_several_threads(sized: Sized) -> None:
    # a step gets whole cores, tasks of one CPU share them: 2 + 2 * 4 + 2 + 2
    assert asked(sized(FOUR.format(worker=""), size(threads=2)), "cpus-per-task")["cpus-per-task"] == "14"


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ("gpu-spelling = 'gres'", {"gres": "gpu:a100:2", "mem": "6G"}),
        ("gpu-spelling = 'gpus-per-task'\nmem-spelling = 'none'", {"gpus-per-task": "a100:2"}),
        ("mem-spelling = 'mem-per-cpu'", {"gpus-per-node": "a100:2", "mem-per-cpu": "1230M"}),
    ],
)
def test_the_job_asks_as_its_site_accepts(profile: str, options: dict[str, str], sized: Sized, tmp_path: Path) -> None:
    text = FOUR.format(worker="ntasks-per-node = 1").replace("= '1G'", "= '1G'\ncpus-per-task = 1")
    text = text.replace("= '512M'", "= '512M'\ncpus-per-task = 1")
    plan = sized(text, size(), site=site(tmp_path, profile))
    assert asked(plan, "gres", "gpus-per-node", "gpus-per-task", "mem", "mem-per-cpu") == options


def test_memory_that_no_role_states_is_shared(sized: Sized) -> None:
    plan = sized(PS.format(chief="", worker="cpus-per-task = 2", ps=""), size())
    assert asked(plan, "mem") == {}
    assert {step["mem"] for step in steps(plan).values()} == {"0"}
    plan = sized(PS.format(chief="mem = 0", worker="mem = '2G'", ps="mem = '1G'"), size())
    assert asked(plan, "mem") == {"mem": "0M"}
    assert [step["mem"] for step in steps(plan).values()] == ["0", "2G", "1G"]


def test_a_role_that_states_no_memory_has_what_slurm_gives_it(sized: Sized) -> None:
    text = PS.format(chief="", worker="mem = '2G'", ps="cpus-per-task = 2")
    plan = sized(text, size(), memory=256)
    assert asked(plan, "mem") == {"mem": "2816M"}
    assert [step["mem"] for step in steps(plan).values()] == ["256M", "2G", "512M"]
    assert sized(text, size()).layout.apart.startswith("only some of them say how much memory they need")


def test_such_jobs_have_arrays_nodelists_and_an_mpi_preflight(fit: Callable[..., Plan]) -> None:
    head = 'array = "0-3%1"\npreflight = "mpi"\n'
    plan = fit(head + FOUR.format(worker="") + "[sbatch]\nnodelist = 'n1'\ndependency = 'afterok:3?afterok:4'\n")
    assert plan.one_job
    assert asked(plan, "array", "nodelist", "nodes") == {"array": "0-3%1", "nodelist": "n1", "nodes": "1"}
    for nodes, listed in (("3", "n[1-3]"), ("1", "n[1-")):
        assert asked(fit(FOUR.format(worker="") + f"[sbatch]\nnodelist = '{listed}'\n"), "nodes") == {"nodes": nodes}


@pytest.mark.parametrize(
    ("chief", "worker", "ps", "more", "why"),
    [
        ("", "partition = 'gpu'", "", "", "their partitions differ"),
        ("", "constraint = 'ib'", "", "", "their constraints differ"),
        ("mem = '1G'", "", "", "", "only some of them say how much memory they need: worker, ps does not"),
        ("gpus-per-task = 1", "gpus-per-task = 'a100:2'", "", "", "only some of them say which type of GPUs they need"),
        ("", "gpus = 2", "", "", "gpus of a role is no multiple of its count"),
        ("", "cpus-per-task = 2", "", "[sbatch]\ngres = 'nvme:1'\n", "[sbatch] has gres, which each role gets"),
    ],
)
def test_roles_that_cannot_share_nodes(
    chief: str, worker: str, ps: str, more: str, why: str, fit: Callable[..., Plan]
) -> None:
    plan = fit(PS.format(chief=chief, worker=worker, ps=ps) + more)
    assert plan.layout.apart == why
    assert len(plan.components) == len(plan.layout.steps) == 2 + (chief.startswith("gpus"))


def test_equal_roles_of_one_component_have_the_memory_of_all(fit: Callable[..., Plan]) -> None:
    both = "mem = '8G'\ngpus-per-node = 1"
    plan = fit(PS.format(chief=both, worker="partition = 'gpu'", ps=both))
    found = options(plan, 1)
    assert {name: found[name] for name in ("nodes", "ntasks", "mem", "gpus-per-node")} == {
        "nodes": "1", "ntasks": "2", "mem": "16G", "gpus-per-node": "2",
    }  # fmt: skip
