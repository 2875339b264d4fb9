"""Pausing Python's cyclic garbage collector, while very many objects are made at once that all stay.

The collector counts objects that are made and not dropped again, and looks for cycles at every few hundred more; what
survives is looked at again later, in the end together with everything else in the process. A page of a thousand events
is seven thousand objects without a single cycle: looking took longer than making them.

Only around code that waits for nothing, for a few milliseconds: no other task runs meanwhile. Other threads of the
process make garbage as before, and it is collected as soon as the block ends. Objects without cycles go when nobody
needs them, paused or not.
"""

import gc


class collecting_later:  # noqa: N801 - used as a context manager, as contextlib's are
    """The collector rests until the block ends; it stays off for whoever had turned it off."""

    __slots__ = ("_is_on",)

    def __enter__(self) -> None:
        self._is_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_error: object) -> None:
        if self._is_on:
            gc.enable()
