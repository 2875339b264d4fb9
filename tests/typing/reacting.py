"""Read by mypy, never run: the types of what reacts to events."""

from typing import assert_type
from uuid import UUID

from pydantic import BaseModel

import mainstay


class Opened(mainstay.DomainEvent, event_type="TypedOpened"):
    pass


class Seen(BaseModel):
    count: int = 0


class Greeting(mainstay.Reaction):
    @mainstay.handles(Opened)
    async def opened(self, event: Opened, ctx: mainstay.ReactionContext) -> None:
        assert_type(await ctx.send("mails", "Greet", {"id": event.aggregate_id}, name="greet"), mainstay.SendResult)
        await ctx.send("mails", "Greet", late=1)  # type: ignore[call-overload]  # arguments are checked
        assert_type(ctx.envelope.position, int)


class Counting(mainstay.EventProcess[Seen]):
    process_type, domain, state_class = "Counting", "counting", Seen

    @mainstay.on_event(Opened, begins=True)
    def opened(self, state: Seen, event: Opened) -> list[mainstay.Step | mainstay.Deadline]:
        state.count += 1
        return [mainstay.Step("mails", "Greet"), mainstay.Deadline("quiet", after=60)]

    def on_reply(self, state: Seen, reply: mainstay.StepReply) -> mainstay.CancelDeadline:
        return mainstay.CancelDeadline("quiet")

    def is_done(self, state: Seen) -> bool:
        return state.count > 1


assert_type(Counting().process_id_of("1", "acme"), UUID)
mainstay.EventProcesses(Counting(), name="processes", on_error="stop")
mainstay.EventProcesses(Counting)  # type: ignore[arg-type]  # an instance
