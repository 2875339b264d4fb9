-- Keep the operators' trail of events that a projection gives up: how many, in one row for each statement.
--
-- Called by the trigger below, for each statement. Whoever gives events up says so; who handled some again the dead letters themselves say.
create or replace function eventsource.note_dead_letters()
returns trigger
language plpgsql
as $$
begin
    perform commandbus.note_deed(
        'PROJECTION', g.subscription, 'DISCARDED',
        jsonb_build_object('dead_letters', g.count, 'first_position', g.first, 'last_position', g.last), g.actor, g.reason)
    from (
        select n.subscription, n.actor, n.reason, count(*), min(n.position) as first, max(n.position) as last
        from settled as n join waited as o on o.subscription = n.subscription and o.position = n.position
        where n.status = 'DISCARDED' and o.status <> 'DISCARDED'
        group by n.subscription, n.actor, n.reason
    ) as g;
    return null;
end;
$$;

create or replace trigger note_dead_letters after update on eventsource.dead_letter
referencing old table as waited new table as settled
for each statement execute function eventsource.note_dead_letters();
