-- The id of the group that a failure belongs to: a hash of domain, type, error type, error code and fingerprint.
--
-- Called by troubleshoot and by the repositories, which write the row. Stable, because concat_ws is; depends on its arguments only.
create or replace function commandbus.failure_group(
    p_domain text, p_command_type text, p_error_type text, p_error_code text, p_fingerprint text)
returns text
language sql stable parallel safe
as $$
    select left(encode(sha256(convert_to(
        concat_ws(chr(31), p_domain, p_command_type, coalesce(p_error_type, ''), coalesce(p_error_code, ''), p_fingerprint),
        'UTF8')), 'hex'), 12)
$$;
