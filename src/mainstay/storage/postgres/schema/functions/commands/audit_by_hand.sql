-- Let programs add lines to the audit under the names that the database pages of `commandbus` use.
--
-- Called by the trigger below, for each row inserted into the view commandbus.command_bus_audit. Locks nothing. Raises 23503 (foreign key
-- violation) if there is no such command.
create or replace function commandbus.audit_by_hand()
returns trigger
language plpgsql
as $$
begin
    insert into commandbus.audit (subject_no, event_type, ts, details)
    select c.subject_no, new.event_type, coalesce(new.ts, clock_timestamp()), new.details_json
    from commandbus.command as c
    where c.command_id = new.command_id and c.domain = new.domain
    returning audit_id, ts into new.audit_id, new.ts;
    if not found then
        raise exception 'no command % in domain "%"', new.command_id, new.domain using errcode = '23503';
    end if;
    return new;
end;
$$;

create or replace trigger audit_by_hand instead of insert on commandbus.command_bus_audit
for each row execute function commandbus.audit_by_hand();
