"""Projections: what is made of events, in one transaction with how far they were read."""
