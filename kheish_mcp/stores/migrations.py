"""The tables of all stores, in the order in which they came to be."""

from __future__ import annotations

from typing import Final

from . import assets, database, jobs, ledger, policy, sessions, tokens

# Entries are only ever added: each takes every database that has seen the ones before it to the next schema.
MIGRATIONS: Final = (
    database.TABLES + assets.TABLES + jobs.TABLES + ledger.TABLES + sessions.TABLES,
    tokens.TABLES,
    policy.TABLES,
    sessions.JOURNAL,
    jobs.CALLS,
)
