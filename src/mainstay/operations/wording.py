"""Rules in words, for whoever reads them: on the command line and in the console."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from cronsim.explain import Day, Weekday, explain

from mainstay.commands.breakers import BreakerRule
from mainstay.commands.gates import Limit

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_STEP: Final = re.compile(r"\*/(\d+)")
_SPANS: Final = (60, 24, 12)
"""Minutes, hours and months: of these a step must be a divisor, or the words would hide where it begins anew."""
_MISCOUNTED: Final = re.compile(r"\b(2[123]|31)th\b")
_ENDINGS: Final = {"1": "st", "2": "nd", "3": "rd"}
_LONGEST: Final = 100
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d$")
"""A time as the database writes it into JSON."""


def limit_in_words(limit: Limit) -> str:
    """A limit in words."""
    parts = []
    if limit.max_running is not None:
        parts.append(f"{limit.max_running:,} at once")
    if limit.max_running_per is not None:
        parts.append(f"{limit.max_running_per:,} at once per {limit.per}")
    if limit.rate is not None:
        window = "second" if limit.per_seconds == 1 else f"{limit.per_seconds:g} s"
        together = "" if limit.burst == limit.rate else f", {limit.burst:,} together"
        parts.append(f"{limit.rate:,} per {window}{together}")
    return "; ".join(parts)


def rule_in_words(rule: BreakerRule) -> str:
    """When breakers of a type open, and how they close, in words."""
    opens = f"{rule.failures:,} failures alike within {rule.within:g} s"
    return f"{opens}; a probe after {rule.probe_after:g} s; then {rule.drip:g} a second"


def every_in_words(seconds: float) -> str:
    """A distance of due times, in the largest unit of which it is a whole number."""
    for size, unit in _UNITS:
        if seconds % size == 0:
            return f"every {seconds / size:,.0f} {unit}"
    return f"every {seconds:g} s"


def deed_in_words(details: dict[str, Any]) -> str:
    """What an operator changed, as the trail keeps it: of a change each thing that differs, before and after."""
    before, after = details.get("before") or {}, details.get("after") or {}
    told = []
    for name in dict.fromkeys((*before, *after)):
        changed = f"{_plain(before[name])} → " if name in before else ""
        told.append(f"{_spaced(name)} {changed}{_plain(after[name]) if name in after else 'none'}")
    others = {name: value for name, value in details.items() if name not in {"before", "after"}}
    told += [
        f"{_spaced(name)}" if value is True else f"{_spaced(name)} {_plain(value)}" for name, value in others.items()
    ]
    return "; ".join(told)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_spaced(name)} {_plain(each)}" for name, each in value.items()) or "all"
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value)
    if isinstance(value, str):
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if _TIME.match(value) else value
    return json.dumps(value)


def schedule_in_words(cron: str | None, every: float | None) -> str:
    """When a schedule is due; one of both is set, ``every`` in seconds."""
    return cron_in_words(cron) if cron is not None else every_in_words(every or 0)


def cron_in_words(cron: str) -> str:
    """When a cron expression is due, in words; the expression itself where they would be wrong, or too long.

    Args:
        cron: Five fields that can be read.
    """
    minutes, hours, days, months, weekdays = cron.upper().split()
    if not all(map(_is_regular, (minutes, hours, months), _SPANS)):
        return cron
    if any(
        field != "*" and (bool({"*", "/"} & {*field}) or of(field).star)
        for field, of in ((days, Day), (weekdays, Weekday))
    ):
        return cron  # by steps, or written as a range of all: cron joins days and weekdays otherwise then
    told = explain(cron).replace(" and on ", " or on ")  # a day of the month, or a weekday: either will do
    told = _MISCOUNTED.sub(lambda found: found[1] + _ENDINGS[found[1][-1]], told[0].lower() + told[1:])
    if (step := _STEP.fullmatch(minutes)) is not None:
        told = re.sub("every [a-z0-9]+ minute( of every hour)?", f"every {step[1]} minutes", told)
    if (step := _STEP.fullmatch(hours)) is not None:
        told = re.sub("at minute 0 past every [a-z0-9]+ hour", f"every {step[1]} hours", told)
    told = told.replace("on Monday through Friday", "on weekdays")
    return told if len(told) <= _LONGEST else cron


def _is_regular(field: str, span: int) -> bool:
    """Whether a field of so many values is without steps, or its steps end where it begins anew."""
    if (step := _STEP.fullmatch(field)) is None:
        return field == "*" or not {"*", "/"} & {*field}
    return int(step[1]) < span and span % int(step[1]) == 0
