"""Bad nodes of an attempt: remembered, and left out of the next one; of Slurm there are the commands alone."""

from pathlib import Path

import pytest

from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.nodes import exclusion
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.transport import ports
from slurm_tf.run import bad_nodes
from tests.launch.requeue.ended_job import PREEMPTED, EndedJob, mark, preemption, quiet


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EndedJob:
    """Return one whose job ran on n1, n2 and n3, and whose user leaves n[7-8] out."""
    made = EndedJob(tmp_path, monkeypatch)
    made.environ.update({"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_TASKS_PER_NODE": "1(x3)"})
    made.answer("squeue-excluded", 0, "n[7-8]")
    return made


UPDATE = "scontrol update JobId=7 ExcNodeList="


def test_bad_nodes_are_left_out_beside_the_users_own(ended: EndedJob) -> None:
    ended.bad = {"n2": "its task was lost"}
    ended.answer("sinfo", 0, "n3|draining*|fan\x1b[2J")
    bad_nodes.remember(ended.run, {"n7": "slow", "n9": "slow"})
    assert ended.conclude(Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet()) == Outcome(75, "")
    trial, *after = ended.calls
    assert trial.startswith("sbatch --test-only --parsable --output=/dev/null --exclude=n7,n8,n9,n3,n2 ")
    assert after[0] == "scontrol requeue incomplete 7"
    assert after[-1] == f"{UPDATE}n7,n8,n9,n3,n2"
    assert ended.said[:2] == ["n3 is a bad node: draining: fan?[2J", "n2 is a bad node: its task was lost"]
    assert ", without n9, n3, n2; it has told of no checkpoint" in ended.said[2]
    assert list(bad_nodes.known(ended.run)) == ["n7", "n9", "n3", "n2"]


def test_after_a_termination_the_requeue_comes_first(ended: EndedJob) -> None:
    ended.bad = {"n2": "its task was lost"}
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert ended.calls[-1] == f"{UPDATE}n7,n8,n2"
    assert "job 7 waits to be started again, without n2; it has told of no checkpoint" in ended.said[-1]


def test_a_job_that_follows_leaves_bad_nodes_out(ended: EndedJob) -> None:
    ended.answer("scontrol-requeue", 1, "", "disabled")
    ended.answer("sbatch", 0, "8")
    bad_nodes.remember(ended.run, {"n7": "slow"})
    assert ended.conclude(Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet()) == Outcome(75, "")
    # the job's own list has it already
    assert [call.split()[0] for call in ended.calls] == ["scontrol", "sbatch"]
    assert " --exclude=n7,n8 " in ended.calls[-1]


def test_no_node_is_left_out_that_the_job_cannot_do_without(ended: EndedJob) -> None:
    bad_nodes.remember(ended.run, {"n9": "slow"})
    ended.bad = {"n2": "its task was lost"}
    ended.answer("sbatch-trial", 1, "", "Requested node configuration is not available", once=True)
    assert ended.conclude(Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet()) == Outcome(75, "")
    assert [" --exclude=n7,n8,n9,n2 " in ended.calls[0], " --exclude=n7,n8,n2 " in ended.calls[1]] == [True, True]
    assert ended.calls[-1] == f"{UPDATE}n7,n8,n2"


def test_where_the_job_could_not_start_nothing_more_is_left_out(ended: EndedJob) -> None:
    ended.bad = {"n2": "its task was lost"}
    ended.answer("sbatch-trial", 1, "", "Requested node configuration is not available")
    assert ended.conclude(Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet()) == Outcome(75, "")
    assert not any(call.startswith(UPDATE) for call in ended.calls)
    words = "without it the job could not start (Requested node configuration is not available)"
    assert f"n2 may be used again: {words}" in ended.said
    assert bad_nodes.known(ended.run) == {"n2": "its task was lost"}


def test_nothing_is_left_out_where_squeue_does_not_say_what_is(ended: EndedJob) -> None:
    ended.bad = {"n2": "its task was lost"}
    ended.answer("squeue-excluded", 1, "", "Unable to contact slurm controller")
    assert ended.conclude(Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet()) == Outcome(75, "")
    assert "n2 may be used again: squeue does not say which nodes the job excludes already" in ended.said
    assert not any(call.startswith(UPDATE) for call in ended.calls)


def test_a_run_that_is_over_keeps_bad_nodes_in_mind(ended: EndedJob) -> None:
    ended.answer("sinfo", 0, "n1|idle|none\nn2|down*|Not responding\nn2|down*|Not responding")
    assert ended.conclude(Outcome(2, "usage"), quiet()) == Outcome(2, "usage")
    assert bad_nodes.known(ended.run) == {"n2": "down: Not responding"}
    assert ended.calls == []


@pytest.mark.parametrize("how", ["another attempt's", "cancelled", "well"])
def test_nodes_are_nobodys_affair_where(how: str, ended: EndedJob) -> None:
    ended.bad = {"n2": "its task was lost"}
    if how == "another attempt's":
        ended.hold("7.1")
    elif how == "cancelled":
        mark(ended, quiet())
    ended.conclude(Outcome(0, "") if how == "well" else Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet())
    assert ended.calls == []
    assert bad_nodes.known(ended.run) == {}


def test_what_slurm_puts_back_by_itself_leaves_its_bad_node_out(ended: EndedJob) -> None:
    ended.answer("sinfo", 0, "n2|down*|Not responding")
    exclusion = Exclusion(ended.context, ended.said.append)
    exclusion.begin(repeats=True)
    exclusion.finish(20)
    assert ended.calls[-1] == f"{UPDATE}n7,n8,n2"
    assert ended.said == [
        "n2 is a bad node: down: Not responding", "job 7 waits, and is to start without n2",
    ]  # fmt: skip


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Addresses that do not answer."""
    addresses: set[str] = set()
    monkeypatch.setattr(ports, "is_there", lambda host, _: host not in addresses)
    return addresses


def test_of_nodes_with_lost_agents_those_are_bad_that_do_not_answer(ended: EndedJob, dead: set[str]) -> None:
    dead.add("10.0.0.2")
    found = Exclusion(ended.context, ended.said.append)
    for index in (1, 2):
        found.lost(f"n{index}", f"10.0.0.{index}")
    found.finish(20)
    assert bad_nodes.known(ended.run) == {"n2": "its task was lost, and it does not answer"}
    assert found.nodes == ["n7", "n8", "n2"]


def test_a_node_that_answers_a_moment_longer_is_looked_at_again(
    ended: EndedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [True, True]
    monkeypatch.setattr(exclusion, "_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(ports, "is_there", lambda *_: bool(answers) and answers.pop())
    found = Exclusion(ended.context, ended.said.append)
    found.lost("n2", "10.0.0.2")
    assert found._thread
    found._thread.join(30)
    assert list(bad_nodes.known(ended.run)) == ["n2"]
    assert ended.said[-1] == "job 7 waits, and is to start without n2"


def test_that_many_nodes_are_gone_is_not_their_own_doing(ended: EndedJob, dead: set[str]) -> None:
    found = Exclusion(ended.context, ended.said.append)
    for index in range(exclusion._MAX_LOST + 1):
        dead.add(f"10.0.0.{index}")
    # all at once, as when a switch fails
    found._hosts = {f"n{index}": f"10.0.0.{index}" for index in range(exclusion._MAX_LOST + 1)}
    found.finish(20)
    assert bad_nodes.known(ended.run) == {}
    assert ended.calls == []


def test_a_lost_node_is_remembered_at_once_and_offered_until_slurm_takes_it(
    ended: EndedJob, dead: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusion, "_PAUSE_SECONDS", 0.05)
    dead.add("10.0.0.2")
    ended.answer("scontrol-update", 1, "", "Job is no longer pending execution", once=True)
    found = Exclusion(ended.context, ended.said.append)
    found.lost("n2", "10.0.0.2")
    assert found._thread
    found._thread.join(30)
    assert [call for call in ended.calls if call.startswith("scontrol")] == [f"{UPDATE}n7,n8,n2"] * 2
    assert ended.said[-1] == "job 7 waits, and is to start without n2"
    # it is not asked for again
    found.finish(20)
    assert found.apply() == ""


def test_a_task_that_hangs_twice_makes_a_bad_node(ended: EndedJob) -> None:
    for name in ("worker:1", "worker:2"):
        found = Exclusion(ended.context, ended.said.append)
        found.hung(name, "n3")
        found.finish(20)
    assert bad_nodes.known(ended.run) == {"n3": "tasks hung there twice, the last time worker:2"}


HOW = "works 0.3 s by itself in each step"


def test_the_node_of_a_slow_task_is_bad_until_that_is_slow_elsewhere_too(ended: EndedJob) -> None:
    found = Exclusion(ended.context, ended.said.append)
    found.slow({"worker:0": ("n1", HOW)})
    found.slow({"worker:2": ("n3", HOW)})  # the other one is not any more
    found.finish(20)
    assert bad_nodes.known(ended.run) == {"n3": f"worker:2 {HOW}"}
    assert found.nodes == ["n7", "n8", "n3"]
    found = Exclusion(ended.context, ended.said.append)
    found.slow({"worker:2": ("n2", HOW)})
    found.finish(20)
    assert ended.said == [
        f"n3 is a bad node: worker:2 {HOW}",
        "worker:2 is slow on n3, n2: by itself, and none of them is a bad node for that",
    ]
    assert bad_nodes.known(ended.run) == {}
    assert found.nodes == []


@pytest.mark.parametrize(("slow", "blamed"), [(1, 1), (2, 2), (3, 0)])
def test_that_many_nodes_are_slow_is_not_their_own_doing(slow: int, blamed: int, ended: EndedJob) -> None:
    ended.environ.update({"SLURM_JOB_NODELIST": "n[1-16]", "SLURM_TASKS_PER_NODE": "1(x16)"})
    found = Exclusion(ended.context, ended.said.append)
    found.slow({f"worker:{index}": (f"n{index}", HOW) for index in range(1, slow + 1)})
    found.finish(20)
    assert len(bad_nodes.known(ended.run)) == blamed


def test_without_slurm_there_is_nothing_to_leave_out(ended: EndedJob, dead: set[str]) -> None:
    dead.add("10.0.0.2")
    del ended.environ["SLURM_JOB_ID"]
    found = Exclusion(ended.context, ended.said.append)
    found.lost("n2", "10.0.0.2")
    found.hung("worker:0", "n2")
    found.slow({"worker:0": ("n2", HOW)})
    found.finish(20)
    assert (found.nodes, ended.said, ended.calls) == ([], [], [])
    assert not Path(ended.run.bad_nodes).exists()


def test_a_file_that_cannot_be_read_keeps_nobody_from_going_on(ended: EndedJob) -> None:
    Path(ended.run.bad_nodes).write_text("{")
    found = Exclusion(ended.context, ended.said.append)
    found.slow({"worker:0": ("n3", HOW)})
    found.finish(20)
    assert ended.said.pop(0).startswith("cannot record that worker:0 is slow on n3: ")
    ended.said.clear()
    ended.bad = {"n2": "its task was lost"}
    assert ended.conclude(Outcome(1, "a node", OutcomeCause.TASK_LOST), quiet()) == Outcome(75, "")
    assert ended.said[0].startswith("cannot record bad nodes: ")
    assert ended.calls[-1] == f"{UPDATE}n7,n8,n2"
