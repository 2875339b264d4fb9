-- breaking: no
-- How far the feed must be read to see what a command did.

alter table commandbus.command add column position bigint;

comment on column commandbus.command.position is 'Of the last event that its handler appended, as far as is known.';
