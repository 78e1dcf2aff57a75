"""The tables of all stores, in the order in which they came to be.

Entries are only ever added, and none is changed: each takes every database that has seen the ones before it to the next
schema.
"""

from __future__ import annotations

from typing import Final

BEGINNING: Final = """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE asset (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        asset_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        media_type TEXT NOT NULL,
        file_name TEXT NOT NULL,
        label TEXT NOT NULL,
        kind TEXT NOT NULL,
        byte_length INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        width INTEGER, height INTEGER, duration_s REAL,
        pcm_rate INTEGER, pcm_channels INTEGER, pcm_bits INTEGER,
        created_at REAL NOT NULL,
        deleted_at REAL,
        provenance TEXT NOT NULL,
        text TEXT
    ) STRICT;
    CREATE UNIQUE INDEX asset_once ON asset (
        owner, media_type, sha256, ifnull(pcm_rate, 0), ifnull(pcm_channels, 0), ifnull(pcm_bits, 0)
    ) WHERE deleted_at IS NULL;
    CREATE INDEX asset_by_owner ON asset (owner, number) WHERE deleted_at IS NULL;
    CREATE INDEX asset_by_blob ON asset (sha256) WHERE deleted_at IS NULL;
    CREATE INDEX asset_deleted ON asset (deleted_at) WHERE deleted_at IS NOT NULL;
    CREATE TABLE job (
        job_id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        tool TEXT NOT NULL,
        arguments_mac TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('working', 'completed', 'failed', 'cancelled')),
        progress TEXT NOT NULL DEFAULT '',
        result TEXT,
        error TEXT,
        delivered INTEGER NOT NULL DEFAULT 0,
        process TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX job_under_way ON job (process) WHERE state = 'working';
    -- planned: about to be sent; sent: bytes are leaving; responded: headers are there; stored: everything is kept;
    -- failed: an answer said no, or nothing was sent; unknown: perhaps billed, nobody can tell yet.
    CREATE TABLE exchange (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        tool TEXT NOT NULL,
        route_id TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('planned', 'sent', 'responded', 'stored', 'failed', 'unknown')),
        generation_id TEXT,
        estimate_usd REAL,
        cost_usd REAL,
        error_code TEXT,
        asset_ids TEXT NOT NULL DEFAULT '[]',
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX exchange_by_time ON exchange (created_at);
    CREATE INDEX exchange_by_route ON exchange (route_id, created_at);
    CREATE INDEX exchange_under_way ON exchange (job_id) WHERE state IN ('planned', 'sent', 'responded');
    -- However a job ends, also by the death of its process: nothing of it stays under way.
    CREATE TRIGGER exchange_of_ended_job AFTER UPDATE OF state ON job WHEN NEW.state <> 'working' BEGIN
        UPDATE exchange SET state = CASE state WHEN 'planned' THEN 'failed' ELSE 'unknown' END,
            error_code = 'aborted', updated_at = NEW.updated_at
        WHERE job_id = NEW.job_id AND state IN ('planned', 'sent', 'responded');
    END;
    CREATE TABLE output (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        output_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        session TEXT,
        content TEXT NOT NULL,
        parts TEXT NOT NULL,
        artifacts TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX output_by_session ON output (owner, session, number);
"""
TOKENS: Final = """
    CREATE TABLE token (
        token_id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        scope TEXT NOT NULL CHECK (scope IN ('read', 'generate', 'admin')),
        digest BLOB NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL
    ) STRICT, WITHOUT ROWID;
"""
CHOICES: Final = """
    CREATE TABLE text_choice (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        route_id TEXT NOT NULL,
        model TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE session_route (
        owner TEXT NOT NULL,
        session TEXT NOT NULL,
        route_id TEXT NOT NULL,
        model TEXT NOT NULL,
        updated_at REAL NOT NULL,
        PRIMARY KEY (owner, session)
    ) STRICT, WITHOUT ROWID;
"""
JOURNAL: Final = """
    CREATE TABLE run (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'interrupted')),
        error TEXT,
        process TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX run_by_session ON run (owner, session, number);
    CREATE INDEX run_under_way ON run (owner, session, number) WHERE state IN ('queued', 'running');
    CREATE TABLE entry (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        session TEXT NOT NULL,
        run_id TEXT,
        kind TEXT NOT NULL CHECK (kind IN ('input', 'answer', 'tool', 'output')),
        body TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX entry_by_session ON entry (owner, session, number);
    INSERT INTO entry (owner, session, kind, body, created_at)
        SELECT owner, session, 'output', json_object(
            'output_id', output_id, 'content', content, 'parts', json(parts), 'artifacts', json(artifacts)
        ), created_at FROM output WHERE session IS NOT NULL ORDER BY number;
"""
# What a second call looks for, and what it asks of a result that is there already.
CALLS: Final = """
    ALTER TABLE job ADD COLUMN wishes TEXT NOT NULL DEFAULT '{}';
    CREATE INDEX job_by_call ON job (owner, tool, arguments_mac, created_at);
"""
MIGRATIONS: Final = (BEGINNING, TOKENS, CHOICES, JOURNAL, CALLS)
