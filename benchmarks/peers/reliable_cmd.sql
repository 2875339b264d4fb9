-- Gives pgmq.read the column order of releases before 1.10, with last_read_at last, in this database only.
alter type pgmq.message_record drop attribute last_read_at;
alter type pgmq.message_record add attribute last_read_at timestamptz;

do $$
declare
  v_text text;
  v_new  text;
begin
  v_text := pg_get_functiondef('pgmq.read(text, integer, integer, jsonb)'::regprocedure);
  v_new := replace(
    v_text,
    'm.enqueued_at, m.last_read_at, m.vt, m.message, m.headers',
    'm.enqueued_at, m.vt, m.message, m.headers, m.last_read_at'
  );
  if v_new = v_text then
    raise exception 'pgmq.read does not return the columns this file expects to move';
  end if;
  execute v_new;
end
$$;
