-- Is no command of bare SQL ready or in hand?
select not exists (select from bench.queue);
