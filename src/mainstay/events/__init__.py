"""Events: what happened, kept in streams and in one global order that never loses any."""
