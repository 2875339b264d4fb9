-- breaking: no
-- Who waits for which command to end, and where he listens. Worth nothing after a crash, hence unlogged.

create unlogged table commandbus.waiter (
    command_id  uuid        not null,
    domain      text        not null,
    channel     text        not null,
    until       timestamptz not null,
    constraint waiter_pkey primary key (command_id, domain, channel)
);

create index waiter_until on commandbus.waiter (until);
