-- Limit how many commands of a type run at once, in all and per value of a field, and how many start in a time; null: no such limit.
--
-- Called by bus.limits.set; replaces all limits of the type. Holds for what is queued already, from the first receive that begins after
-- the COMMIT. What runs now counts. Locks the domain's row; then reads the queue, which tells what runs.
create or replace function commandbus.set_limit(
    p_domain text, p_command_type text, p_max_running integer, p_per text, p_max_running_per integer,
    p_rate integer, p_per_seconds double precision, p_burst integer)
returns void
language plpgsql volatile
as $$
declare
    v_table regclass := commandbus.queue_table(p_domain || '__commands');
    v_per text;
begin
    perform commandbus.add_gate(p_domain, p_command_type);
    select g.per into v_per from commandbus.gate as g where g.domain = p_domain and g.command_type = p_command_type;
    update commandbus.gate as g
    set max_running = p_max_running, per = p_per, max_running_per = p_max_running_per,
        rate = p_rate, per_seconds = p_per_seconds, burst = p_burst
    where g.domain = p_domain and g.command_type = p_command_type;
    delete from commandbus.running_slot as s where s.domain = p_domain and s.command_type = p_command_type;
    if p_max_running is not null or p_per is not null or p_rate is not null then
        execute format(
            'insert into commandbus.running_slot (domain, command_type, limit_key, command_id, lease_no)'
            ' select c.domain, c.command_type, commandbus.limit_key($3, c.data, c.headers), c.command_id, c.lease_no'
            ' from %s as q'
            ' join commandbus.command as c on c.command_id = commandbus.id_of(q.message) and c.domain = $1'
            ' where q.read_ct > 0 and c.command_type = $2 and c.status = ''IN_PROGRESS'' and c.msg_id = q.msg_id', v_table)
        using p_domain, p_command_type, p_per;
    end if;
    if v_per is distinct from p_per then
        update commandbus.parked as p
        set limit_key = commandbus.limit_key(p_per, c.data, c.headers)
        from commandbus.command as c
        where p.domain = p_domain and p.command_type = p_command_type and p.held_by is null and c.command_id = p.command_id and c.domain = p.domain;
    end if;
end;
$$;
