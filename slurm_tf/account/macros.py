"""The macros of SQL that read what sacct prints: times, sizes and TRES. Those of local times are in local_time.py."""

MACROS = r"""
create macro word(x) as case when x in ('(null)', 'None', 'N/A', 'None assigned', 'Unknown') then null else x end;
create macro is_never(x) as x is null or x in ('Unknown', 'None', 'N/A');
create macro in_range(x) as case when x > 0 and x < 4294967294 then x end;
create macro naive(x) as case when length(x) = 19 then epoch(try_cast(x as timestamp))::bigint end;
create macro is_no_moment(x) as not is_never(x) and naive(x) is null and try_cast(x as bigint) is null;
create macro long_clock(x) as case when regexp_full_match(x, '(\d+-)?(\d+:)?\d+:\d+(\.\d+)?') then
    epoch(try_cast(case when contains(x, '-') then replace(x, '-', ' days ')
        when regexp_full_match(x, '\d+:\d+(\.\d+)?') then '00:' || x else x end as interval)) end;
create macro clock(x) as coalesce(
    case when length(x) = 8 and x[3] = ':' and x[6] = ':' then epoch(try_cast(x as time)) end, long_clock(x));
create macro seconds(x) as case when contains(x, ':') then clock(x) else try_cast(x as bigint)::double end;
create macro size(x) as try_cast(round(case when regexp_full_match(x, '\d{1,20}(\.\d{1,9})?[KMGTPE]?')
    then rtrim(x, 'KMGTPE')::double * pow(1024, strpos('KMGTPE', right(x, 1))) end) as bigint);
create macro mebibytes(x) as size(case when right(x, 1) <= '9' then x || 'M' else x end) // 1048576;
-- NO_VAL64 and INFINITE64 stand for no number
create macro is_no_number(x) as coalesce(try_cast(x as hugeint) >= 9223372036854775808, false);
create macro resident(rss, tasks) as size(rss) * try_cast(tasks as bigint);
create macro instant(x) as in_range(try_cast(x as bigint));
create macro tres_of(x, name) as nullif(regexp_extract(x, '(?:^|,)' || name || '=([^,]*)', 1), '');
create macro noted(name, x, is_unread) as case when is_unread then name || ' ''' || left(x, 40) || '''' end;
create macro cpu_used(total, user_cpu, system_cpu, average, tasks) as
    clock(coalesce(total, user_cpu, average)) * case when total is null and user_cpu is null
        then try_cast(tasks as bigint) else 1 end
    + case when total is null and user_cpu is not null then clock(system_cpu) else 0 end;
create macro incarnation(cluster, sluid, id, started, submitted) as coalesce(cluster, '') || '/' || coalesce(
    sluid, id || '/' || coalesce(started::varchar, '-') || '/' || coalesce(submitted::varchar, '-'));
"""
