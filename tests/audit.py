"""The provider's bills held against our ledger: what was billed twice, and what was paid for and is nowhere."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database
from kheish_mcp.stores.jobs import MAC_KEY
from kheish_mcp.tools import TOOLS
from kheish_mcp.tools.base import validate
from kheish_mcp.tools.running import WISHES
from tests.emulators.provider.records import Bill

TAG: Final = re.compile(rb"call-(\d{6})")
TABLE: Final = (
    "SELECT number, exchange.job_id, exchange.tool, exchange.state, generation_id, cost_usd, asset_ids, arguments_mac,"
    " job.state, job.result, job.error, progress FROM exchange JOIN job ON job.job_id = exchange.job_id ORDER BY number"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger with what came of its job; `tag` says which call it was."""

    number: int
    job_id: str
    tool: str
    state: str
    generation_id: str | None
    cost_usd: float | None
    asset_ids: tuple[str, ...]
    tag: int
    job_state: str
    text: str
    is_stopped: bool
    quarantine: tuple[str, ...]


@dataclass(slots=True)
class Audit:
    """What the books say: sentences for each bill that is doubled or lost, and counts.

    `in_doubt` are the calls with a row that is unknown although their daemon did not stop.
    """

    bills: int
    usd: float
    states: Counter[str]
    assets: int
    quarantined: int
    unheard: int = 0
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    in_doubt: frozenset[int] = frozenset()


def tag_of(body: bytes) -> int:
    """Which call a request belongs to: its words hold `call-` and six digits."""
    found = TAG.search(body)
    assert found is not None, "every call of a proof has its tag"
    return int(found[1])


async def audited(
    state_root: Path,
    bills: Sequence[Bill],
    calls: Mapping[int, tuple[str, Mapping[str, Any], Mapping[str, Any]]],
    stops: Mapping[int, int],
) -> Audit:
    """Every bill against the rows on disk, once no daemon runs.

    `calls` are a tool, its arguments and what its references stand for, by tag; `stops` says how often the caller of a
    tag said stop, after which it may knowingly buy the same once more.
    """
    async with Database.open(state_root) as database:
        assets = AssetStore(state_root, database)
        rows = await _rows(database, calls)
        _, damaged = await assets.verify()
        live = {str(row[0]) for row in await database.rows("SELECT asset_id FROM asset WHERE deleted_at IS NULL")}
        working = await database.rows("SELECT job_id FROM job WHERE state = 'working'")
    aside = {path.name for path in (state_root / "quarantine").glob("*.bin")}
    found = Audit(
        len(bills),
        round(sum(bill.cost for bill in bills), 6),
        Counter(row.state for row in rows),
        len(live),
        len(aside),
    )
    found.open = [f"row {row.number}" for row in rows if row.state in ("planned", "sent", "responded")]
    found.open += [str(job_id) for (job_id,) in working]
    found.in_doubt = frozenset(row.tag for row in rows if row.state == "unknown" and not row.is_stopped)
    found.lost += [f"{asset_id} is damaged" for asset_id in damaged]
    matched = _matched(found, bills, rows)
    unnamed = aside - {name for row in rows for name in row.quarantine}
    for bill, row in matched:
        reason = _loss(row, bill, live - set(damaged), aside, unnamed)
        if reason:
            found.lost.append(f"call {row.tag}, row {row.number} ({row.state}), {bill.generation_id}: {reason}")
    _doubled(found, bills, matched, stops)
    return found


async def _rows(database: Database, calls: Mapping[int, tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> list[Row]:
    key = await database.key(MAC_KEY)
    tags = {_mac(key, *call): tag for tag, call in calls.items()}
    return [_row(found, tags) for found in await database.rows(TABLE)]


def _mac(key: bytes, tool: str, arguments: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    """What stands for a call's arguments in the store of jobs."""
    [form] = [each.input for each in TOOLS if each.name == tool]
    given = validate(form, arguments).model_dump(mode="json", exclude_none=True, exclude=set(WISHES))
    return hmac.new(key, json.dumps({**given, **resolved}, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _row(found: tuple[Any, ...], tags: Mapping[str, int]) -> Row:
    number, job_id, tool, state, generation_id, cost, ids, mac, job_state, result, error, progress = found
    refusal = json.loads(error) if error else {}
    names = refusal.get("details", {}).get("quarantine", "").split(", ")
    text = str(json.loads(result).get("text", "")) if result else progress
    return Row(
        number, job_id, tool, state, generation_id, cost, tuple(json.loads(ids)), tags[mac], job_state, text,
        refusal.get("code") == "aborted", tuple(filter(None, names)),
    )  # fmt: skip


def _matched(found: Audit, bills: Sequence[Bill], rows: Sequence[Row]) -> list[tuple[Bill, Row]]:
    """Each bill with its row: by the provider's id, else a row of the same call that is in doubt and has none."""
    by_id, nameless = defaultdict(list), defaultdict(list)
    for row in rows:
        if row.generation_id:
            by_id[row.generation_id].append(row)
        elif row.state == "unknown":
            nameless[row.tag].append(row)
    matched = []
    for bill in bills:
        known, spare = by_id[bill.generation_id], nameless[tag_of(bill.asked)]
        if len(known) > 1:
            found.doubled.append(f"{bill.generation_id} stands in {len(known)} rows")
        found.unheard += not known
        if known or spare:
            matched.append((bill, known[0] if known else spare.pop()))
        else:
            found.lost.append(f"call {tag_of(bill.asked)}: {bill.generation_id} stands in no row")
    return matched


def _loss(row: Row, bill: Bill, live: set[str], aside: set[str], unnamed: set[str]) -> str:
    """Why what was billed is lost; empty where it is kept, kept aside, or openly in doubt.

    A daemon, or a call, that stops before it has told of what it kept aside leaves a file that no refusal names.
    """
    if row.state == "unknown":
        return ""
    if row.state == "stored" and row.tool == "ask_model":
        return "" if row.text else "the words are nowhere"
    if row.state == "stored":
        return "" if row.asset_ids and set(row.asset_ids) <= live else "an asset is missing"
    if row.cost_usd != bill.cost:
        return f"written down as {row.cost_usd} and billed {bill.cost}"
    if (row.is_stopped or row.job_state == "cancelled") and unnamed:
        unnamed.pop()
        return ""
    return "" if aside & {*row.quarantine} else "nothing was kept aside"


def _doubled(
    found: Audit, bills: Sequence[Bill], matched: Sequence[tuple[Bill, Row]], stops: Mapping[int, int]
) -> None:
    """A job is billed once, and a call once more only after its caller said stop."""
    by_job = Counter(row.job_id for _, row in matched)
    found.doubled += [f"{job_id} was billed {times} times" for job_id, times in by_job.items() if times > 1]
    by_tag = Counter(tag_of(bill.asked) for bill in bills)
    found.doubled += [
        f"call {tag} was billed {times} times" for tag, times in by_tag.items() if times > 1 + stops.get(tag, 0)
    ]
