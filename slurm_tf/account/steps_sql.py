"""The SQL that finds the job of each step, and adds up what the steps of a job used.

It reads the view `raw` (the fields of each row of one part of a text, and its `position`), and makes of it the tables
`step_rows` and `used`; `job_rows` are the rows of jobs with their columns.
"""

from slurm_tf.account.local_time import Clock

# A step is of the nearest row of its job before it, as sacct prints them, else of the nearest one after it. Some
# releases print "12.0+1" for a step of component 1 of job 12.
_STEP_ROWS = r"""
create or replace table step_rows as
with printed as (
  select r.*, coalesce(JobID, JobIDRaw) as printed_id,
    split_part(coalesce(JobID, JobIDRaw), '.', 1) as owner, split_part(coalesce(JobID, JobIDRaw), '.', 2) as name,
    case when JobIDRaw is not null then split_part(JobIDRaw, '.', 1)
      when contains(name, '+') then owner || '+' || split_part(name, '+', 2) else owner end as of_job,
    tres_of(TRESUsageInTot, 'cpu') as sampled_cpu, tres_of(TRESUsageInTot, 'mem') as sampled_memory,
    tres_of(TRESUsageInTot, 'gres/gpuutil') as sampled_gpus, tres_of(TRESUsageInTot, 'gres/gpumem') as gpu_bytes
  from raw r where contains(coalesce(JobID, JobIDRaw, ''), '.')
), jobs as (
  select position, coalesce(JobIDRaw, JobID) as raw_id from raw where not contains(coalesce(JobID, JobIDRaw, ''), '.')
)
select printed.* exclude (owner), coalesce(before.position, after.position) as job,
  case when sampled_memory is not null then size(sampled_memory, '')
    when name in ('batch', 'interactive') then size(MaxRSS, '')
    else resident(MaxRSS, NTasks) end as memory,
  {moment}(Start) as started, {moment}("End") as ended,
  floor(seconds(coalesce(ElapsedRaw, Elapsed)))::bigint as length,
  nullif(concat_ws(', ',
    noted('Start', Start, is_no_moment(Start)), noted('End', "End", is_no_moment("End")),
    noted('TotalCPU', TotalCPU, TotalCPU is not null and clock(TotalCPU) is null),
    noted('MaxRSS', MaxRSS, MaxRSS is not null and size(MaxRSS, '') is null and not is_no_number(MaxRSS)),
    noted('NTasks', NTasks, NTasks is not null and try_cast(NTasks as bigint) is null),
    noted('TRESUsageInTot', sampled_memory, sampled_memory is not null and size(sampled_memory, '') is null
      and not is_no_number(sampled_memory))), '') as unreadable
from printed
asof left join jobs before on printed.of_job = before.raw_id and printed.position >= before.position
asof left join jobs after on printed.of_job = after.raw_id and printed.position <= after.position;
"""


def step_rows(clock: Clock) -> str:
    """Return the statement that makes the table `step_rows`."""
    return _STEP_ROWS.format(moment=clock.moment)


# .extern lasts as long as the allocation and does no work. If a signal ended a task, TotalCPU lacks its child
# processes; what Slurm sampled includes them.
_OF_JOBS = """
create or replace table used as
with working as (select * from step_rows where job is not null and name <> 'extern'),
counted as (
  select job, sum(case when cpu is not null then greatest(cpu, coalesce(clock(sampled_cpu), 0)) end) as cpu,
    max(case when not is_numbered then memory end) as other_memory,
    max(case when is_numbered then memory end) as largest,
    sum(size(sampled_gpus, '') * length) as gpu_seconds,
    bool_or(starts_with(coalesce(State, ''), 'OUT_OF_ME')) as out_of_memory,
    bool_or(memory is null and size(MaxRSS, '') > 0) as lacks_tasks
  from (select *, cpu_used(TotalCPU, UserCPU, SystemCPU, AveCPU, NTasks) as cpu,
    name between '0' and ':' as is_numbered from working) group by job
), peaks as ({peaks})
select counted.* exclude (other_memory, largest),
  greatest(coalesce(other_memory, 0), coalesce(largest, 0), coalesce(peak, 0)) as memory
from counted left join peaks using (job);
"""
# The most memory that numbered steps held which ran at the same time, as if all reached their peak then. At one second
# the order is: what ends, what begins and ends, what begins.
_PEAKS = """
  select job, max(held) as peak from (
    select job, sum(change) over (
      partition by job order by instant, kind, position, change desc rows unbounded preceding) as held
    from (
      select job, position, memory as change, coalesce(started, 0) as instant,
        case when ended <= started then 1 else 2 end as kind
      from working where name between '0' and ':' and memory > 0
      union all
      select job, position, -memory, ended, case when ended <= started then 1 else 0 end
      from working where name between '0' and ':' and memory > 0 and ended is not null
    )
  ) group by job
"""
USED = _OF_JOBS.format(peaks=_PEAKS)

# The rows of the table `steps`, and when the job ended; `job_rows` has the incarnation of each job.
STEPS = """
select incarnation(j.cluster, j.sluid, j.id, j.started, j.submitted) as incarnation, j.raw_id, s.name as step,
  s.JobName as name, upper(rtrim(split_part(s.State, ' ', 1), '+')) as state,
  s.started, s.ended, coalesce(s.length, s.ended - s.started) as elapsed, word(s.NodeList) as nodes,
  coalesce(size(tres_of(s.AllocTRES, 'node'), ''), size(coalesce(s.AllocNodes, s.NNodes), '')) as node_count,
  try_cast(s.NTasks as bigint) as tasks,
  coalesce(size(tres_of(s.AllocTRES, 'cpu'), ''), size(coalesce(s.AllocCPUS, s.NCPUS), '')) as cpus,
  size(tres_of(s.AllocTRES, 'gres/gpu'), '') as gpus, size(s.MaxRSS, '') as max_rss, s.MaxRSSNode as max_rss_node,
  size(s.AveRSS, '') as ave_rss, size(s.sampled_memory, '') as total_memory,
  cpu_used(s.TotalCPU, s.UserCPU, s.SystemCPU, s.AveCPU, s.NTasks) as used_cpu,
  size(s.sampled_gpus, '')::double as gpu_percent, size(s.gpu_bytes, '') as gpu_memory, s.unreadable,
  j.ended as job_ended
from step_rows s join job_rows j on s.job = j.position
"""
