"""The SQL that completes the rows of jobs: what AllocTRES holds, and the columns that are made of others."""

from collections.abc import Iterable

from slurm_tf.account.columns import JOBS
from slurm_tf.account.literals import literal
from slurm_tf.account.window import Window
from slurm_tf.run.job_comment import COMMENT, JOB_NAME

# Columns that are made of others when they are read: no file has them.
_MADE = ("incarnation", "job", "state")
STORED = tuple(column.name for column in JOBS if column.name not in _MADE)

# Values of AllocTRES, each of which many jobs have. GPUs are "gres/gpu=4", or the sum of "gres/gpu:a100=4" where that
# is not there; other names begin alike (gres/gpumem). A bare number of mem is MB (17.11).
TRES = r"""
create or replace table alloc_tres as
with parsed as (
  select alloc_tres, tres_of(alloc_tres, 'cpu') as cpu, tres_of(alloc_tres, 'node') as node,
    tres_of(alloc_tres, 'mem') as mem, tres_of(alloc_tres, 'billing') as bill, tres_of(alloc_tres, 'gres/gpu') as gpu,
    regexp_extract_all(alloc_tres, '(?:^|,)gres/gpu:([^=,]+)=([^,]*)', 1) as types,
    regexp_extract_all(alloc_tres, '(?:^|,)gres/gpu:([^=,]+)=([^,]*)', 2) as counts
  from (select distinct alloc_tres from found_rows where alloc_tres is not null)
), sized as (
  select *, size(cpu) as cpus, size(node) as node_count, mebibytes(mem) as memory, size(bill) as billing,
    case when gpu is null then coalesce(list_sum(list_transform(counts, lambda n: size(n))), 0)::bigint
      else size(gpu) end as gpus
  from parsed
)
select alloc_tres, cpus, node_count, memory, billing, gpus,
  nullif(array_to_string(list_sort(list_distinct(list_filter(types, lambda kind, i: counts[i] <> '0'))), '+'), '')
    as gpu_type,
  nullif(concat_ws(', ', noted('AllocTRES cpu', cpu, cpu is not null and cpus is null),
    noted('AllocTRES node', node, node is not null and node_count is null),
    noted('AllocTRES mem', mem, mem is not null and memory is null),
    noted('AllocTRES gres/gpu', gpu, gpu is not null and gpus is null)), '') as unread
from sized;
"""
# ReqMem: "4000Mc" is for each CPU, "16000Mn" for each node, without a suffix it is the total (since 21.08). sacct -P of
# 16.05 and 17.02 prints the bit that says "a CPU" as a part of the number of MB.
COMPLETED = """
with held as (
  select f.* exclude (alloc_tres, alloc_cpus, alloc_nodes, req_mem, memory), f.memory as peak, t.unread, t.memory,
    case when not f.has_run then 0 else coalesce(nullif(t.cpus, 0), f.alloc_cpus, t.cpus) end as cpus,
    case when not f.has_run then 0 else coalesce(nullif(t.node_count, 0), f.alloc_nodes, t.node_count) end
      as node_count,
    case when not f.has_run then 0 else t.gpus end as gpus,
    case when f.has_run then t.gpu_type end as gpu_type,
    case when not f.has_run then 0 else t.billing end as billing,
    right(f.req_mem, 1) as suffix,
    mebibytes(case when suffix in ('c', 'n') then left(f.req_mem, -1) else f.req_mem end) as requested
  from (select *, started is not null or coalesce(elapsed, 0) > 0 as has_run from found_rows) f
  left join alloc_tres t on f.alloc_tres = t.alloc_tres
  where f.why_left_out is null
)
select h.* exclude (cpu, peak, unread, memory, suffix, requested, unreadable, gpu_seconds, why_left_out, has_run),
  case when not has_run then 0 else coalesce(nullif(memory, 0), case
    when requested >= 2147483648 then (requested - 2147483648) * cpus when suffix = 'c' then requested * cpus
    when suffix = 'n' then requested * node_count else requested end, memory) end as memory,
  case when cpu > 0 or peak > 0 then cpu end as used_cpu, nullif(peak, 0) as used_memory,
  case when gpus > 0 then coalesce(
    gpu_seconds / (gpus * nullif(coalesce(ended - started, elapsed), 0)), s.gpu_use) end as gpu_use,
  nullif(concat_ws(', ', unreadable, case when has_run then unread end), '') as unreadable
from held h left join job_summaries s on h.admin_comment = s.admin_comment
"""


def accounted(relation: str, window: Window, now: int, where: Iterable[str]) -> str:
    """Return the query of the view `accounted`: the rows that overlap the window, with all columns.

    A row overlaps a window that contains a part of its allocation or, if it never ran, its end. A pending one overlaps
    only a window that contains `now`.
    """
    start, end = window
    conditions = [
        f"""case when coalesce(started, ended) is null then {start <= now <= end}
    else coalesce(started, ended) < {end}
      and (ended is null or ended > {start} or coalesce(started, ended) >= {start}) end""",
        *where,
    ]
    made = {
        "incarnation": "incarnation(cluster, sluid, id, started, submitted)",
        "job": "split_part(split_part(id, '_', 1), '+', 1)",
        "state": "nullif(upper(rtrim(split_part(state_text, ' ', 1), '+')), '')",
    }
    names = ", ".join(f'{made[name]} as "{name}"' if name in made else f'"{name}"' for name in (c.name for c in JOBS))
    return f"select {names} from {relation} where {' and '.join(conditions)}"


# What runs recorded of their incarnations; `is_told`: whether that is when training began and was saved.
RUNS = """
create or replace table runs_of_jobs (
  id varchar, cluster varchar, started bigint, submitted bigint, template varchar, run varchar, is_told boolean,
  began double, saved double, is_kept boolean, busy double
);
"""


def jobs(has_runs: bool) -> str:
    """Return the statement that makes the view `jobs`: with the template and the run of each row."""
    by_comment = f"starts_with(comment, {literal(COMMENT)}) and contains(comment, '/template=')"
    template = f"""coalesce({"r.template," if has_runs else ""}
    case when {by_comment} then nullif(regexp_extract(comment, '/template=((?s:.*))', 1), '') end,
    case when starts_with(name, {literal(JOB_NAME)}) then nullif(substr(name, {len(JOB_NAME) + 1}), '') end)"""
    run = "split_part(comment, '/template=', 1)"
    run = f"case when {by_comment} then nullif(substr({run}, {len(COMMENT) + 1}), '') end"
    others = (
        "r.is_told, r.began, r.saved, r.is_kept, r.busy from accounted a left join runs_of_jobs r on a.id = r.id "
        "and a.cluster is not distinct from r.cluster and a.started is not distinct from r.started "
        "and a.submitted is not distinct from r.submitted"
        if has_runs
        else "false as is_told, null::double as began, null::double as saved, false as is_kept, "
        "null::double as busy from accounted a"
    )
    run = f"coalesce(r.run, {run})" if has_runs else run
    return f"create or replace view jobs as select a.*, {template} as template, {run} as run, {others}"
