"""A command that waits for an operator, without a worker."""

TROUBLE = """
select commandbus.complete('shop', (
    select jsonb_agg(jsonb_build_object('command_id', r.command_id, 'msg_id', r.msg_id, 'lease_no', r.lease_no,
        'verb', 'TROUBLESHOOT', 'error_type', 'PERMANENT', 'error_code', 'BROKEN', 'error_message', 'on purpose'))
    from commandbus.receive('shop', 1, 60, 'nobody') as r))
"""
"""Receives one command of the domain shop, and says that it is broken."""
