-- Is no command of theirs ready or in hand? Completing one deletes its message in the same transaction.
select not exists (select from pgmq.q_bench__commands);
