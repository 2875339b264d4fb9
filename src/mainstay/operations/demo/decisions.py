"""What the demo's operator decides on commands in troubleshooting, and whether it came about.

Part of what failed permanently is retried with a mended payload, a few of them unchanged (the dice fall as before, so
they come straight back), some are completed by hand, some given up, and the rest stays. What used up its attempts is
retried with a payload that does not fail any more.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mainstay.commands.command import TroubleshootingItem
from mainstay.commands.failures import Selection
from mainstay.commands.lifecycle import CommandStatus
from mainstay.commands.store import Action
from mainstay.operations.demo.behaviours import CommandBehavior, Fate, replay
from mainstay.operations.demo.figures import Decision
from mainstay.operations.demo.handlers import DOMAIN
from mainstay.operations.operator import Operator
from mainstay.storage.postgres.demo import DemoStore

OPERATOR = "demo operator"
_AT_MOST = 2000
_PERMANENT = "PERMANENT"


async def decide(operator: Operator, store: DemoStore, settled: Callable[[], Awaitable[None]]) -> list[Decision]:
    """Decide, wait until all is handled, and look what came of it.

    Args:
        operator: Connected.
        store: Knows where commands stand.
        settled: Waits until nothing is under way.
    """
    since = store.since
    waiting = [
        each
        for each in await operator.troubleshooting(domain=DOMAIN, limit=_AT_MOST)
        if since is None or each.created_at >= since
    ]
    permanent = [each for each in waiting if each.last_error_type == _PERMANENT]
    exhausted = [each for each in waiting if each.last_error_type != _PERMANENT]
    quarter = len(permanent) // 4
    mended = permanent[: 2 * quarter]
    unchanged = [each for each in permanent[2 * quarter : 3 * quarter] if _fails_again(each)][: max(quarter // 3, 1)]
    by_hand = permanent[3 * quarter : 3 * quarter + quarter // 2]
    given_up = permanent[3 * quarter + quarter // 2 : 4 * quarter]
    for item in [*mended, *exhausted]:
        await operator.retry_edited(
            item.command_id, _mended(item.payload), domain=item.domain, operator=OPERATOR, reason="payload mended"
        )
    for action, chosen, reason, result in (
        (Action.RETRY, unchanged, "trying once more", None),
        (Action.COMPLETE, by_hand, "done by telephone", {"by": "telephone"}),
        (Action.CANCEL, given_up, "the customer gave up", None),
    ):
        if chosen:
            await operator.resolve(action, _these(chosen), operator=OPERATOR, reason=reason, result=result)
    await settled()
    troubleshooting = CommandStatus.IN_TROUBLESHOOTING_QUEUE
    plans: list[tuple[str, Sequence[TroubleshootingItem], str, CommandStatus]] = [
        ("retried with a mended payload", mended, "completed", CommandStatus.COMPLETED),
        ("retried after all attempts were used up", exhausted, "completed", CommandStatus.COMPLETED),
        ("retried unchanged", unchanged, "came back", troubleshooting),
        ("completed by hand", by_hand, "completed", CommandStatus.COMPLETED),
        ("canceled", given_up, "canceled", CommandStatus.CANCELED),
    ]
    decisions = []
    for what, items, became, status in plans:
        ends = await store.ends([item.command_id for item in items])
        as_expected = sum(end.status is status for end in ends.values())
        decisions.append(Decision(what, len(items), became, as_expected))
    return decisions


def _these(items: Sequence[TroubleshootingItem]) -> Selection:
    return Selection(DOMAIN, command_ids=tuple(item.command_id for item in items))


def _fails_again(item: TroubleshootingItem) -> bool:
    """Whether a command that starts over fails again by its dice; one whose worker was killed may have better luck."""
    data = item.payload or {}
    behavior = CommandBehavior.from_data(data)
    return replay(behavior, int(data.get("seed", 0)), item.command_id, item.max_attempts) is Fate.PERMANENT


def _mended(payload: dict[str, Any] | None) -> dict[str, Any]:
    """The payload without what made it fail."""
    data = dict(payload or {})
    behavior = data.get("behavior") or {}
    return data | {"behavior": {name: value for name, value in behavior.items() if not name.endswith("_pct")}}
