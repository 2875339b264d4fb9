-- breaking: no
-- What finds all that belongs to a conversation, and an event by its id.
--
-- Not an entry for each row but a filter for each 32 pages, written once, when they are full (decision 30): people ask for a conversation now and then, and
-- commands and events are written all the time.

create index command_conversation on commandbus.command
    using brin (correlation_id uuid_bloom_ops (n_distinct_per_range = 1000, false_positive_rate = 0.001))
    with (pages_per_range = 32, autosummarize = on);

create index event_conversation on eventsource.event
    using brin (
        correlation_id uuid_bloom_ops (n_distinct_per_range = 1600, false_positive_rate = 0.001),
        event_id uuid_bloom_ops (n_distinct_per_range = 1600, false_positive_rate = 0.001))
    with (pages_per_range = 32, autosummarize = on);
