"""When a schedule is due: by a cron expression in a time zone, or every so often.

Promises. Due times are points in time, each after the one before, and what comes after a point depends on nothing but
that point: it does not matter when one begins to count.

Daylight saving time is treated as Debian's cron does. A job at a fixed time (``30 2 * * *``) runs once a day also on
the two odd days: when its time is skipped, right after the gap; when its time comes twice, the first time. A job whose
minute or hour is a ``*`` or begins with one runs by the clock that never jumps: ``*/15 * * * *`` every 15 minutes,
through the gap and through both passes of the repeated hour. ``every`` knows no clock changes at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from mainstay.errors import InvalidInputError
from mainstay.retry import as_seconds

_FIELDS = 5
_LONGEST_CRON = 200
_FIRST_WINDOW = timedelta(hours=1)
_SHORTEST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule for due times; one of ``cron`` and ``every`` is set.

    Args:
        cron: Five fields: minute, hour, day of month, month, day of week.
        every: Distance between two due times.
        timezone: Name in the IANA database, which the fields are in.
        counts_from: For ``every``: a due time, from which the others are counted.
        not_before: No due time lies before it.
    """

    cron: str | None
    every: timedelta | None
    timezone: str
    counts_from: datetime
    not_before: datetime | None = None

    def after(self, moment: datetime) -> datetime | None:
        """The first due time after a point in time; None if there is none for the next 50 years."""
        return next(self._from(moment), None)

    def latest(self, first: datetime, until: datetime, count: int) -> list[datetime]:
        """The newest due times from one to a point in time, in order.

        Args:
            first: A due time, or a time that was one under an earlier rule: it counts.
            until: The last moment that counts.
            count: How many at most. The work does not depend on how many there are.
        """
        window = max(_FIRST_WINDOW, (self.every or _SHORTEST) * count)
        while True:
            begin = max(first, until - window)
            found = list(takewhile(lambda due: due <= until, self._from(begin)))
            if begin == first:
                found.insert(0, first)
            if begin == first or len(found) >= count:
                return found[-count:]
            window *= 2

    def _from(self, moment: datetime) -> Iterator[datetime]:
        if self.not_before is not None:
            moment = max(moment, self.not_before - timedelta(microseconds=1))
        return self._counted(moment) if self.every is not None else self._by_cron(moment)

    def _counted(self, moment: datetime) -> Iterator[datetime]:
        every = self.every or _SHORTEST
        number = (moment - self.counts_from) // every + 1
        try:
            while True:
                yield self.counts_from + number * every
                number += 1
        except OverflowError:
            return

    def _by_cron(self, moment: datetime) -> Iterator[datetime]:
        before = moment
        for due in CronSim(self.cron or "", moment.astimezone(zone(self.timezone))):
            found = due.astimezone(UTC)
            if found > before:  # when an hour comes twice, counting begins in the first one
                before = found
                yield found


def checked_cron(cron: str) -> str:
    """The expression itself, if it can be read and is due some day.

    Raises:
        InvalidInputError: It cannot, or is not.
    """
    if not isinstance(cron, str) or len(cron) > _LONGEST_CRON or len(cron.split()) != _FIELDS:
        raise InvalidInputError(
            f"cron must be a text of five fields: minute, hour, day of month, month, day of week, not {cron!r:.80}"
        )
    try:
        next(CronSim(cron, datetime.now(UTC)))
    except StopIteration:
        raise InvalidInputError(f"cron {cron!r} is not due within 50 years") from None
    except Exception as error:
        raise InvalidInputError(f"cron {cron!r} cannot be read: {error}") from error
    return " ".join(cron.split())


def checked_every(every: timedelta | float) -> timedelta:
    """The distance itself.

    Raises:
        InvalidInputError: Not a duration, or shorter than a second.
    """
    try:
        distance = timedelta(seconds=as_seconds(every))
    except ValueError as error:
        raise InvalidInputError(f"every: {error}") from error
    if distance < _SHORTEST:
        raise InvalidInputError(f"every must be at least a second, not {every!r}")
    return distance


def checked_timezone(name: str) -> str:
    """The name itself, if this machine knows such a time zone.

    Raises:
        InvalidInputError: It does not.
    """
    zone(name)
    return name


def zone(name: str) -> tzinfo:
    """The time zone of a name.

    Raises:
        InvalidInputError: This machine knows none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except Exception as error:  # a missing key, a folder, a path: as many kinds as ways to be wrong
        raise InvalidInputError(
            f"no time zone {name!r:.80}; write it as Europe/Berlin. If it is right, this machine has no time zone "
            "database: install the system's tzdata, or `pip install tzdata`"
        ) from error
