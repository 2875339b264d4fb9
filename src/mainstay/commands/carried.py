"""What a command carries besides its payload: what led to it, and in whose name it is handled.

Promises. A command that is sent while another command or an event is handled has that as its ``causation_id``; one that
is sent in the scope of a tenant, or of an actor, has their ids (`mainstay.tenancy`), unless the sender says otherwise.
Whoever sends in the scope of one tenant cannot send for another. While a command is handled, its tenant is the scope:
its aggregate is loaded from that tenant's streams and appended to them, and so is everything else that its handler
reads and writes through stores; its actor is on the events that name none. A command of no tenant is handled outside
any scope, and one of no actor in nobody's name, whatever its worker handled before. So tenant and actor travel on: to
what handlers send, into batches, schedules and processes, to replies that arrive as commands, through retries and the
hands of operators.

Where. In the command's headers, under these three names, because nothing in the database decides by them. The
headers of a command are cleared when it is pruned.
"""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from mainstay.errors import InvalidInputError, PermanentCommandError
from mainstay.message import causation_id_var, checked_id
from mainstay.serialization import checked_object
from mainstay.tenancy import checked_actor, checked_tenant, current_actor, current_tenant, scoped_tenant

CAUSATION = "causation_id"
TENANT = "tenant_id"
ACTOR = "actor_id"


class Carried:
    """What commands say of themselves in their headers."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def headers(self) -> dict[str, Any] | None:
            """What was sent beside the payload."""

    @property
    def causation_id(self) -> UUID | None:
        """The command or event that led to it; None if nothing did, or who sent it wrote something else there."""
        try:
            return checked_id(self._said(CAUSATION), CAUSATION)
        except InvalidInputError:
            return None

    @property
    def tenant_id(self) -> UUID | str | None:
        """Whose it is; None if nobody's.

        Raises:
            InvalidInputError: No tenant can be called so: who sent it wrote something else there.
        """
        return checked_tenant(self._said(TENANT))

    @property
    def actor_id(self) -> str | None:
        """Who wants it; None if nobody said.

        Raises:
            InvalidInputError: Nobody can be called so: who sent it wrote something else there.
        """
        return checked_actor(self._said(ACTOR))

    def _said(self, name: str) -> Any:
        return self.headers.get(name) if self.headers else None


def carrying(
    headers: Any, causation_id: UUID | None, tenant_id: UUID | str | None, actor_id: str | None
) -> dict[str, Any] | None:
    """The headers of a command that is being sent, with what it carries: what is said, else what the context says.

    Args:
        headers: As the sender gave them; what they say counts, too.
        causation_id: The command or event that led to it.
        tenant_id: Whose it is.
        actor_id: Who wants it.

    Raises:
        InvalidPayloadError: The headers are no JSON object.
        InvalidInputError: Not such ids.
        TenantScopeError: Of another tenant than the scope that this runs in.
    """
    given = None if headers is None else checked_object(headers, what="headers")
    if given:
        causation_id = given.get(CAUSATION) if causation_id is None else causation_id
        tenant_id = given.get(TENANT) if tenant_id is None else tenant_id
        actor_id = given.get(ACTOR) if actor_id is None else actor_id
    cause = causation_id_var.get() if causation_id is None else causation_id
    actor = current_actor() if actor_id is None else actor_id
    if cause is None and actor is None and tenant_id is None and current_tenant() is None:
        return given
    said = dict(given or {})
    if cause is not None:
        said[CAUSATION] = str(checked_id(cause, CAUSATION))
    if (tenant := scoped_tenant(tenant_id, "a command to be sent")) is not None:
        said[TENANT] = str(tenant)
    if actor is not None:
        said[ACTOR] = checked_actor(actor)
    return said


def said_by(command: Carried) -> tuple[UUID | str | None, str | None]:
    """A received command's tenant and actor.

    Raises:
        PermanentCommandError: Its headers name no such tenant or actor; handled, it would be in nobody's name.
    """
    if not command.headers:
        return None, None
    try:
        return command.tenant_id, command.actor_id
    except InvalidInputError as error:
        raise PermanentCommandError("INVALID_HEADERS", str(error)) from error
