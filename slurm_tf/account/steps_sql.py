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
    split_part(printed_id, '.', 1) as owner, split_part(printed_id, '.', 2) as step,
    case when JobIDRaw is not null then split_part(JobIDRaw, '.', 1)
      when contains(step, '+') then owner || '+' || split_part(step, '+', 2) else owner end as of_job,
    tres_of(TRESUsageInTot, 'cpu') as usage_cpu, tres_of(TRESUsageInTot, 'mem') as usage_memory,
    tres_of(TRESUsageInTot, 'gres/gpuutil') as usage_gpus, tres_of(TRESUsageInTot, 'gres/gpumem') as usage_gpu_memory,
    tres_of(AllocTRES, 'cpu') as tres_cpus, tres_of(AllocTRES, 'node') as tres_nodes,
    tres_of(AllocTRES, 'gres/gpu') as tres_gpus
  from raw r where contains(coalesce(JobID, JobIDRaw, ''), '.')
), typed as (
  select *, {moment}(Start) as started, {moment}("End") as ended,
    floor(seconds(coalesce(ElapsedRaw, Elapsed)))::bigint as length, try_cast(NTasks as bigint) as tasks,
    coalesce(size(tres_nodes), size(coalesce(AllocNodes, NNodes))) as node_count,
    coalesce(size(tres_cpus), size(coalesce(AllocCPUS, NCPUS))) as cpus, size(tres_gpus) as gpus,
    size(MaxRSS) as max_rss, size(AveRSS) as ave_rss, size(usage_memory) as total_memory,
    cpu_used(TotalCPU, UserCPU, SystemCPU, AveCPU, NTasks) as used_cpu, clock(usage_cpu) as sampled_cpu,
    size(usage_gpus) as gpu_percent, size(usage_gpu_memory) as gpu_memory
  from printed
), jobs as (
  select position, coalesce(JobIDRaw, JobID) as raw_id from raw where not contains(coalesce(JobID, JobIDRaw, ''), '.')
)
select t.position, coalesce(before.position, after.position) as job, printed_id, step, JobName as name, State,
  started, ended, length, NodeList, node_count, tasks, cpus, gpus, max_rss, MaxRSSNode as max_rss_node, ave_rss,
  total_memory, used_cpu, sampled_cpu, gpu_percent, gpu_memory,
  case when usage_memory is not null then total_memory when step in ('batch', 'interactive') then max_rss
    else max_rss * tasks end as memory,
  nullif(concat_ws(', ',
    noted('Start', Start, is_no_moment(Start)), noted('End', "End", is_no_moment("End")),
    noted('TotalCPU', TotalCPU, used_cpu is null and TotalCPU is not null),
    noted('MaxRSS', MaxRSS, max_rss is null and MaxRSS is not null and not is_no_number(MaxRSS)),
    noted('NTasks', NTasks, tasks is null and NTasks is not null),
    noted('TRESUsageInTot', usage_memory, total_memory is null and usage_memory is not null
      and not is_no_number(usage_memory))), '') as unreadable
from typed t
asof left join jobs before on t.of_job = before.raw_id and t.position >= before.position
asof left join jobs after on t.of_job = after.raw_id and t.position <= after.position;
"""


def step_rows(clock: Clock) -> str:
    """Return the statement that makes the table `step_rows`."""
    return _STEP_ROWS.format(moment=clock.moment)


# .extern lasts as long as the allocation and does no work. If a signal ended a task, TotalCPU lacks its child
# processes; what Slurm sampled includes them.
_OF_JOBS = """
create or replace table used as
with working as (select * from step_rows where job is not null and step <> 'extern'),
counted as (
  select job, sum(case when used_cpu is not null then greatest(used_cpu, coalesce(sampled_cpu, 0)) end) as cpu,
    max(case when not is_numbered then memory end) as other_memory,
    max(case when is_numbered then memory end) as largest, sum(gpu_percent * length) as gpu_seconds,
    bool_or(starts_with(coalesce(State, ''), 'OUT_OF_ME')) as out_of_memory,
    bool_or(memory is null and max_rss > 0) as lacks_tasks
  from (select *, step between '0' and ':' as is_numbered from working) group by job
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
      from working where step between '0' and ':' and memory > 0
      union all
      select job, position, -memory, ended, case when ended <= started then 1 else 0 end
      from working where step between '0' and ':' and memory > 0 and ended is not null
    )
  ) group by job
"""
USED = _OF_JOBS.format(peaks=_PEAKS)

# The rows of the table `steps`, and when the job ended; `job_rows` has the incarnation of each job.
STEPS = """
select incarnation(j.cluster, j.sluid, j.id, j.started, j.submitted) as incarnation, j.raw_id, s.step, s.name,
  upper(rtrim(split_part(s.State, ' ', 1), '+')) as state, s.started, s.ended,
  coalesce(s.length, s.ended - s.started) as elapsed, word(s.NodeList) as nodes, s.node_count, s.tasks, s.cpus, s.gpus,
  s.max_rss, s.max_rss_node, s.ave_rss, s.total_memory, s.used_cpu, s.gpu_percent::double as gpu_percent, s.gpu_memory,
  s.unreadable, j.ended as job_ended
from step_rows s join job_rows j on s.job = j.position
"""
