"""Python's collector of cycles: when it need not look.

The collector counts objects that are made and not dropped again, and looks for cycles at every few hundred more; what
survives is looked at again later, in the end together with everything else in the process. A page of a thousand events
is seven thousand objects without a single cycle: looking took longer than making them.

`collecting_later` is only put around code that waits for nothing, for a few milliseconds: no other task runs meanwhile.
Other threads of the process make garbage as before, and it is collected as soon as the block ends. Objects without
cycles go when nobody needs them, paused or not.

`collect_rarely` is for a whole process. What a worker has in hand is some thousand objects, which go when their
commands end: with the interpreter's threshold each batch is looked through twice before it goes.
"""

import gc

_OBJECTS = 5_000
"""More than a worker has in hand at once: 128 commands of 25 objects each."""


class collecting_later:  # noqa: N801 - used as a context manager, as contextlib's are
    """The collector rests until the block ends; it stays off for whoever had turned it off."""

    __slots__ = ("_is_on",)

    def __enter__(self) -> None:
        self._is_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_error: object) -> None:
        if self._is_on:
            gc.enable()


def collect_rarely() -> None:
    """Let a process that does little else than handle commands look for cycles of garbage seldom.

    Whatever is there now is never looked through again (`gc.freeze`), so call it when everything is imported; after
    that, cycles are looked for when there are 5,000 objects more, not some hundred. ``mainstay worker`` does it; a
    library must not, as it concerns the whole process. Nothing is changed for those who have turned the collector
    off, and no higher threshold is lowered. Cycles that hold much memory each stay for longer.
    """
    first, *others = gc.get_threshold()
    if gc.isenabled() and first:
        gc.collect()
        gc.freeze()
        gc.set_threshold(max(first, _OBJECTS), *others)
