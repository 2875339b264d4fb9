-- Run as a whole, or not at all: who comes second finds the tables, rolls back, and uses them.
begin immediate;

create table if not exists mainstay_schema (
    part text primary key,
    version integer not null
) strict;

-- What consumers have taken in.
create table mainstay_inbox (
    consumer text not null,
    message_id blob not null,
    taken_at integer not null,  -- microseconds since 1970, as all times
    primary key (consumer, message_id)
) strict, without rowid;

create index mainstay_inbox_taken_at on mainstay_inbox (consumer, taken_at);

insert into mainstay_schema (part, version) values ('inbox', 1);

commit;
