"""Measures mainstay beside its peers and bare SQL, in one run on one PostgreSQL server. See README.md."""
