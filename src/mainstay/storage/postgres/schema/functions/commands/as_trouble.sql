-- The row by which operators find a command that is IN_TROUBLESHOOTING_QUEUE, with the group of failures that it belongs to.
--
-- Called by troubleshoot, and where single rows of commands are written. The group is written with the row, once, so that counting groups reads the
-- troubleshooting table only. Locks nothing.
create or replace function commandbus.as_trouble(p_command commandbus.command)
returns setof commandbus.troubleshooting
language sql stable
as $$
    select
        p_command.command_id, p_command.domain, p_command.command_type, p_command.updated_at, p_command.error_type,
        p_command.error_code, f.print,
        commandbus.failure_group(p_command.domain, p_command.command_type, p_command.error_type, p_command.error_code, f.print)
    from (select commandbus.fingerprint(p_command.error_message) as print offset 0) as f;
$$;
