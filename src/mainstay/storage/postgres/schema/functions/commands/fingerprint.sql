-- What an error message says apart from whom it is about: a hash of it without numbers, ids and quoted parts.
--
-- Called by troubleshoot, so that failures can be grouped without reading them again. mainstay.commands.actions.fingerprint says the
-- same for the memory store; the contract compares the two. Only plain character classes, which both languages read alike. Pure.
create or replace function commandbus.fingerprint(p_message text)
returns text
language sql immutable parallel safe
as $$
    select left(encode(sha256(convert_to(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    left(coalesce(p_message, ''), 2000),
                    '"[^"]*"|(?<![A-Za-z])''[^'']*''', '?', 'g'),
                '[A-Za-z0-9_.:/-]*[0-9][A-Za-z0-9_.:/-]*', '?', 'g'),
            '[ \t\r\n]+', ' ', 'g'),
        'UTF8')), 'hex'), 12)
$$;
