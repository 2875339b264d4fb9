-- Which commands of the troubleshooting queue meet all conditions; null means any.
--
-- Called by begin_action and by the questions that show an operator beforehand what it would take. Locks nothing. Reads commands only where
-- a batch is asked for: those of its domain that wait, each by its primary key; written as a join, all commands of the batch might be read instead
-- (decision 5).
create or replace function commandbus.select_troubled(
    p_domain text, p_command_type text, p_error_code text, p_group_id text, p_batch_id uuid, p_command_ids uuid[])
returns setof commandbus.troubleshooting
language sql stable
as $$
    select t.* from commandbus.troubleshooting as t
    where (p_domain is null or t.domain = p_domain)
      and (p_command_type is null or t.command_type = p_command_type)
      and (p_error_code is null or t.error_code = p_error_code)
      and (p_group_id is null or t.group_id = p_group_id)
      and (p_command_ids is null or t.command_id = any (p_command_ids))
      and (p_batch_id is null
           or t.domain = any (array(select b.domain from commandbus.batch as b where b.batch_id = p_batch_id))
              and p_batch_id = (
                  select c.batch_id from commandbus.command as c where c.command_id = t.command_id and c.domain = t.domain))
$$;
