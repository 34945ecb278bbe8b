"""What the forms of jobs have in common: their fields, the options of sbatch, and what a job would be."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request

from slurm_tf.errors import SlurmError
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.org import job_check, user_quota
from slurm_tf.page import quota_cache
from slurm_tf.page.context import PageContext
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import highest_cost, new_run, plan_submission, render, run_index, sooner

# Options of sbatch that each form has, with what they are about; an empty one leaves what the job says.
OPTIONS = {
    "time": "time limit, as sbatch takes it: 30 (minutes), 12:00:00, 2-0",
    "partition": "partition",
    "account": "account that pays",
    "qos": "quality of service",
}
_OPTION = "sbatch."
# What is shown of a job that was not checked: see of_plan.
NOT_CHECKED: Mapping[str, object] = {"script": "", "costs": "", "starts": (), "warnings": ()}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form. `kind`: text, number, float, path or choice; `wrong`: why what was typed cannot be."""

    name: str
    label: str
    kind: str
    value: str = ""
    help: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    min: str = ""
    max: str = ""
    required: bool = False
    wrong: str = ""


def option_fields(names: Mapping[str, str], form: Mapping[str, str], stated: Mapping[str, object]) -> list[Field]:
    """Return the fields of options of sbatch, by their names: what each is about, is typed, and is by default."""
    return [
        Field(f"{_OPTION}{name}", name, "text", form.get(f"{_OPTION}{name}", ""), about, str(stated.get(name) or ""))
        for name, about in names.items()
    ]


def options(names: Mapping[str, str], form: Mapping[str, str]) -> dict[str, str]:
    """Return the options of sbatch that were typed into a form with these."""
    return {name: form[f"{_OPTION}{name}"] for name in names if form.get(f"{_OPTION}{name}")}


def of_plan(context: PageContext, plan: Plan) -> dict[str, object]:
    """Return the script of a job, the most that it may take, and what is known of when Slurm would start it.

    Raises LimitError for a job that no limit of Slurm's would ever let start.
    """
    quota, script = job_check.check(plan), render.script(plan)
    names = quota_cache.run_names(context.runs.look(wait=False))
    waits = user_quota.why_waiting(quota, job_check.demand(plan), names)
    try:
        expected = sooner.estimate(script)
        starts = [expected.text]
        if expected.start:
            starts += sooner.lines(plan, expected.start, datetime.now().astimezone())
    except SlurmError as error:
        starts = [f"when it would start is unknown: {error}"]
    starts += [f"It would wait: {waits}."] if waits else []
    costs, warnings = highest_cost.words(plan), new_run.warnings(plan.job)
    return {"script": script, "costs": costs, "starts": starts, "warnings": warnings}


def submit(context: PageContext, request: Request, job: Job, name: str) -> RunFolder:
    """Submit a job as a run of this name, "" for one that is free; return its folder. Raises SlurmTfError."""
    plan = new_run.prepare(job, name)
    sent = plan_submission.submit_plan(plan)
    run_index.add([plan.run.path])
    context.runs.read_again(plan.run)
    words = f"Submitted as job {', '.join(sent.jobs)}. {sent.messages}".strip()
    context.sessions.put_note(request.state.cookie, words)
    return plan.run
