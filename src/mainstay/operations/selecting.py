"""What a decision is about must exist: whoever mistypes an id is told so, and nothing is written down as decided."""

from mainstay.commands.decisions import checked_selection
from mainstay.commands.failures import Selection
from mainstay.operations.missing import NoSuchCommandError, NoSuchCommandsError, NoSuchGroupError
from mainstay.operations.operator import Acted, Operator


async def refuse_unknown(operator: Operator, which: Selection) -> list[Acted]:
    """Refuse a selection that names nothing that there is.

    Args:
        operator: Whom to ask.
        which: As it was asked for.

    Returns:
        Of several ids, those that no command has, to be told of.

    Raises:
        CommandNotFoundError: No command has one of these ids.
        BatchNotFoundError: There is no such batch.
        InvalidOperationError: No command waits in this group.
        InvalidInputError: Several domains have one of these ids, or something in the selection cannot be accepted.
    """
    which = checked_selection(which)
    if which.batch_id is not None:
        await operator.batch(which.batch_id, which.domain)
    if which.group_id is not None and not await operator.failure_groups(group_id=which.group_id):
        raise NoSuchGroupError(which.group_id)
    if not which.command_ids:
        return []
    homes = await operator.locate(which.command_ids, which.domain)
    unknown = [key for home, key in homes if home is None]
    if len(unknown) == len(homes):
        if len(unknown) == 1:
            raise NoSuchCommandError(unknown[0], which.domain)
        raise NoSuchCommandsError(unknown, which.domain)
    problem = "there is no such command"
    return [Acted(None, key, applied=False, status=None, problem=problem) for key in unknown]
