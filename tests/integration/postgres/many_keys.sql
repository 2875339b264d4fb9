-- %(keys)s keys in use: the head of each is ready, two commands of each wait behind it; every 250th head waits for an operator. Behind the first key, 10,000 wait.
with made as (
    insert into commandbus.command (command_id, domain, command_type, correlation_id, created_at, updated_at, data, key, status)
    select gen_random_uuid(), 'keys', 'Keyed', gen_random_uuid(), now() - n * interval '1 second', now(), '{}'::jsonb, 'key ' || n,
           case when n %% 250 = 0 then 'IN_TROUBLESHOOTING_QUEUE' else 'PENDING' end
    from generate_series(1, %(keys)s) as n
    returning command_id, key, subject_no
)
insert into commandbus.key_head (key, domain, subject_no, command_id, since)
select m.key, 'keys', m.subject_no, m.command_id, now() - m.subject_no * interval '1 millisecond' from made as m;

with made as (
    insert into commandbus.command (command_id, domain, command_type, correlation_id, created_at, updated_at, data, key)
    select gen_random_uuid(), 'keys', 'Keyed', gen_random_uuid(), now() - n * interval '1 second', now(), '{}'::jsonb, 'key ' || n %% %(keys)s + 1
    from generate_series(1, 2 * %(keys)s) as n
    union all
    select gen_random_uuid(), 'keys', 'Keyed', gen_random_uuid(), now() - n * interval '1 second', now(), '{}'::jsonb, 'key 1' from generate_series(1, 10000) as n
    returning command_id, key, subject_no
)
insert into commandbus.keyed (domain, key, subject_no, command_id)
select 'keys', m.key, m.subject_no, m.command_id from made as m;

insert into commandbus.troubleshooting
select f.*
from commandbus.command as c
cross join lateral commandbus.as_trouble(c) as f
where c.status = 'IN_TROUBLESHOOTING_QUEUE' and c.domain = 'keys';
