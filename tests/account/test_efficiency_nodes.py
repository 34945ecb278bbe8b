"""Lines for the nodes of a job and their GPUs: what reportseff prints of the same rows."""

from slurm_tf.account import efficiency_nodes, efficiency_table
from slurm_tf.account.efficiency_nodes import Detail
from slurm_tf.account.job_use import JobUse
from tests.account.test_efficiency_table import JOBSTATS, OTHERS, uses
from tests.conftest import RECORDED

# What release 2.10.3 prints with --node-and-gpu of the jobs in JOBSTATS.
PRINTED = RECORDED / "sacct" / "jobstats.reportseff-2.10.3-node-and-gpu"
# Where slurm-tf says something else: the use of a GPU that nobody recorded is unknown, and not a part of the mean.
OTHERS_BY_NODE = {
    **OTHERS, ("della-l03g5", "GPUEff"): "-", ("della-l03g5/3", "GPUEff"): "-", ("della-l05g2", "GPUEff"): "9.5%",
    ("della-l05g2/2", "GPUEff"): "-",
}  # fmt: skip
COLUMNS = ("JobID", "CPUEff", "MemEff", "GPUEff", "GPUMem")


def lines(job: JobUse, detail: Detail) -> list[list[str]]:
    wanted = efficiency_table.columns(",".join(COLUMNS), [job])
    parts = efficiency_nodes.parts(job, detail)
    return [[each.cell(job) for each in wanted], *([part.cell(each) for each in wanted] for part in parts)]


def test_it_says_what_reportseff_says() -> None:
    wanted, node = [], ""
    for text in PRINTED.read_text().splitlines()[1:]:
        name, *values = text.split("|")
        node = name.strip() if name.startswith("  ") and not name.startswith("    ") else node
        key = f"{node}/{name.strip()}" if name.startswith("    ") else name.strip()
        cells = {"": "", "---": "-"}
        shown = [
            OTHERS_BY_NODE.get((key, column), cells.get(value, f"{float(value):.1f}%" if value[:1].isdigit() else ""))
            for column, value in zip(COLUMNS[1:], values, strict=True)
        ]
        # a node without GPUs has none of their values
        wanted.append([name, *("-" if node and not value and name[2:3] != " " else value for value in shown)])
    jobs = {job.id: job for job in uses(JOBSTATS)}
    found = [line for name in jobs for line in lines(jobs[name], Detail.GPU)]
    assert sorted(found) == sorted(wanted)


def test_nodes_alone_and_of_several_nodes_alone() -> None:
    jobs = {job.id: job for job in uses(JOBSTATS)}
    assert [line[0] for line in lines(jobs["8205048"], Detail.NODE)] == [
        "8205048", "  tiger-h19c1n15", "  tiger-h26c2n13", "  tiger-i26c2n11", "  tiger-i26c2n15",
    ]  # fmt: skip
    assert len(lines(jobs["8189521"], Detail.NODE)) == len(lines(jobs["8205048"], Detail.JOB)) == 1


def test_json_has_nodes_and_their_gpus() -> None:
    jobs = {job.id: job for job in uses(JOBSTATS)}
    (node,) = efficiency_nodes.as_dicts(jobs["46044267"], Detail.GPU)
    assert (node["node"], node["GPUs"], round(node["MemEff"], 3), node["GPUEff"]) == ("della-l05g2", 2, 0.864, 0.095)
    assert [(gpu["gpu"], gpu["GPUEff"]) for gpu in node["gpus"]] == [("2", None), ("3", 0.095)]


def test_jobs_on_several_nodes_without_a_summary_are_named() -> None:
    plain = [JobUse("1", node_count=2), JobUse("2", node_count=1), JobUse("3", node_count=4)]
    assert efficiency_nodes.remark(plain, Detail.NODE).startswith("2 jobs on several nodes have no values by node:")
    assert efficiency_nodes.remark(plain[:2], Detail.GPU).startswith("1 job on several nodes has no values by node:")
    assert efficiency_nodes.remark(plain, Detail.JOB) == efficiency_nodes.remark(plain[1:2], Detail.NODE) == ""
