"""The SQL that reads what sacct prints: macros for its times, sizes and TRES, and the columns of a job's row.

Formats and their sources are those of slurm/sacct_amounts.py. A macro returns NULL for text that it cannot read; the
row then names that text in `unreadable`, and has all its other columns.
"""

from collections.abc import Iterable

from slurm_tf.account.exit_classes import PUT_BACK, SAME, ExitClass
from slurm_tf.account.local_time import INSTANTS, Clock
from slurm_tf.slurm.job_states import JobState

DAY = 86400
# Slurm never ends a job without a time limit. If one seems to have run for a year, slurmctld has lost it.
FORGOTTEN = 365 * DAY

# Fields whose text is named where it cannot be read, and what says so.
_NOTED = (
    ("Submit", "submitted is null and is_no_moment(Submit)"),
    ("Eligible", "may_start is null and is_no_moment(Eligible)"),
    ("ElapsedRaw", "length is null and ElapsedRaw is not null"),
    ("Suspended", "pause is null and Suspended is not null"),
    ("ExitCode", "(status is null or signal is null) and ExitCode is not null"),
    ("Restarts", "restart_count is null and Restarts is not null and not is_no_number(Restarts)"),
    ("TotalCPU", "own_cpu is null and TotalCPU is not null"),
    ("MaxRSS", "own_memory is null and MaxRSS is not null and not is_no_number(MaxRSS)"),
    (
        "ConsumedEnergyRaw",
        "energy is null and try_cast(ConsumedEnergyRaw as hugeint) is null and ConsumedEnergyRaw <> ''",
    ),
)
_OOM = "OUT_OF_ME"  # a prefix, as a narrow column of sacct cuts the state


def jobs(now: int, used: str = "", clock: Clock = INSTANTS) -> str:
    """Return the query of the rows of jobs in `raw`; a job that runs without an elapsed time is counted until `now`.

    `used`: a table of what the steps of the job in each row of `raw` used, "" where there are no steps.
    """
    steps = (
        "u.cpu as step_cpu, u.memory as step_memory, u.gpu_seconds, "
        "coalesce(u.out_of_memory, false) as step_out_of_memory, "
        "coalesce(u.lacks_tasks, false) as lacks_tasks"
        if used
        else "null::double as step_cpu, null::bigint as step_memory, null::double as gpu_seconds, "
        "false as step_out_of_memory, false as lacks_tasks"
    )
    joined = f"left join {used} u on u.job = r.position" if used else ""
    moment = clock.moment
    notes = ", ".join(f"noted('{name}', {name}, {test})" for name, test in _NOTED)
    return f"""
with printed as (
  select r.*, {steps}, coalesce(JobID, JobIDRaw) as id, coalesce(JobIDRaw, JobID) as raw_id,
    upper(rtrim(split_part(State, ' ', 1), '+')) as word, coalesce(ElapsedRaw, Elapsed) as any_elapsed,
    coalesce(TimelimitRaw, Timelimit) as any_limit, coalesce(AllocCPUS, NCPUS) as any_cpus,
    coalesce(AllocNodes, NNodes) as any_nodes
  from raw r {joined} where not contains(coalesce(JobID, JobIDRaw, ''), '.')
), typed as (
  select *, coalesce(NodeList in ('None assigned', '(null)', 'None', 'N/A'), AllocTRES is null) as has_no_nodes,
    {moment}(Submit) as submitted, {moment}(Start) as begun, {moment}("End") as over,
    case when Eligible = Submit or Eligible is null then {moment}(Submit) else {moment}(Eligible) end as may_start,
    floor(seconds(any_elapsed))::bigint as length, floor(clock(Suspended))::bigint as pause,
    try_cast(split_part(ExitCode, ':', 1) as bigint) as status,
    try_cast(split_part(ExitCode, ':', 2) as bigint) as signal,
    coalesce(try_cast(any_limit as bigint), floor(clock(any_limit) / 60)::bigint) as time_limit,
    try_cast(Restarts as bigint) as restart_count, nullif(try_cast(ConsumedEnergyRaw as bigint), 0) as energy,
    cpu_used(TotalCPU, UserCPU, SystemCPU, AveCPU, NTasks) as own_cpu, resident(MaxRSS, NTasks) as own_memory
  from printed
), {_TOLD_APART if clock.has_repeats else "timed as (select * from typed)"}, placed as (
  select *, case when not coalesce(has_no_nodes and begun = over and coalesce(length, 0) = 0, false) then begun end
      as started,
    case when word in ('RUNNING', 'R', 'SUSPENDED', 'S') then null
      when "End" is null and word in ({_words(state for state in JobState if state.ended)})
        then begun + length + coalesce(pause, 0)
      else over end as ended
  from timed
), counted as (
  select *, case when started is null then 0
      when pause is not null then pause
      when over is null or length is null then 0
      else greatest(0, over - started - length) end as paused
  from placed
), known as (
  select *, case when started is not null and ended is null then coalesce(over, started + length + paused, {now}) end
    as until from counted
)
select position, id, raw_id, Cluster as cluster, SLUID as sluid, JobName as name, "User" as user, Account as account,
  "Partition" as partition, QOS as qos, WCKey as wckey, State as state_text, {_exit_class()} as exit_class,
  status, signal, step_out_of_memory or coalesce(starts_with(State, '{_OOM}'), false) as out_of_memory,
  word(Reason) as reason, submitted, may_start as eligible, started, ended, until as counted_until,
  coalesce(length, ended - started - paused) as elapsed, paused as suspended, time_limit,
  coalesce(until - started > coalesce(time_limit * 60 + {DAY}, {FORGOTTEN}), false) as is_runaway,
  restart_count as restarts, AllocTRES as alloc_tres, size(any_cpus) as alloc_cpus,
  size(any_nodes) as alloc_nodes, ReqMem as req_mem, word(NodeList) as nodes,
  coalesce(step_cpu, own_cpu) as cpu,
  case when not lacks_tasks then greatest(coalesce(step_memory, 0), coalesce(own_memory, 0)) end as memory,
  gpu_seconds, energy, Comment as comment, AdminComment as admin_comment, Extra as extra, SubmitLine as submit_line,
  WorkDir as work_dir, nullif(concat_ws(', ', {notes}), '') as unreadable,
  coalesce(noted('Start', Start, begun is null and is_no_moment(Start)),
    noted('End', "End", over is null and is_no_moment("End"))) as why_left_out
from known
"""


# In the hour that a change of clocks repeats, the elapsed time says which of the two times it was.
_TOLD_APART = """doubtful as (
  select *, later_moment(Start) as begun_later, later_moment("End") as over_later, length + coalesce(pause, 0) as lasted
  from typed
), half_told as (
  select * replace (case when begun = begun_later or over - begun = lasted or over_later - begun = lasted
      or not coalesce(over - begun_later = lasted or over_later - begun_later = lasted, false)
    then begun else begun_later end as begun)
  from doubtful
), timed as (
  select * replace (case when over = over_later or over - begun = lasted
      or not coalesce(over_later - begun = lasted, false) then over else over_later end as over)
  from half_told
)"""


def _exit_class() -> str:
    """Return the expression of a row's exit class, by the word of its state: as exit_classes.classify."""
    others = " ".join(f"when word in ({_words([state])}) then '{end.word}'" for state, end in SAME.items())
    return f"""case
    when word in ({_words([JobState.FAILED])}) and step_out_of_memory then '{ExitClass.OUT_OF_MEMORY.word}' {others}
    when State = 'CANCELLED by 0' then '{ExitClass.CANCELLED_BY_SITE.word}'
    when word in ({_words([JobState.CANCELLED])}) then '{ExitClass.CANCELLED.word}'
    when word in ({_words(PUT_BACK)}) then '{ExitClass.REQUEUED.word}'
    when word in ({_words([JobState.RESIZING])}) and ended is not null then '{ExitClass.COMPLETED.word}'
    when ended is null and word in ({_words(JobState)}) then '{ExitClass.RUNNING.word}'
    else '{ExitClass.UNKNOWN.word}' end"""


def _words(states: Iterable[JobState]) -> str:
    """Return the long and short names of states, as a list in SQL."""
    return ", ".join(
        f"'{word}'" for state in states if state is not JobState.UNKNOWN for word in (state.name, state.short)
    )
