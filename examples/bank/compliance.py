"""What the law wants: every large sum that is paid in cash is reported.

A handler of the plain kind: what it writes through ``ctx.conn`` and the completion of its command are one COMMIT, so
each sum is reported once.
"""

from examples.bank.domain import ReportCash
from mainstay import Command, HandlerContext, handler

TABLES = "create table if not exists bank_reports (command_id uuid primary key, account text, amount bigint)"


@handler(transactional=True)
async def report(command: Command[ReportCash], ctx: HandlerContext) -> None:
    await ctx.conn.execute(
        "insert into bank_reports values (%s, %s, %s)",
        (command.command_id, command.data.account_id, command.data.amount),
    )
