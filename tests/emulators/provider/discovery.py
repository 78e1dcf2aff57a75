"""GET /models, /generation and /key: what there is, what a call cost, what the key may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.emulators.provider.answers import Answer, Asked, Refused
from tests.emulators.provider.catalogue import MODELS, Model

if TYPE_CHECKING:
    from tests.emulators.provider.emulator import OpenRouterEmulator

OUTPUTS = frozenset(
    ["text", "image", "embeddings", "audio", "video", "rerank", "decisions", "speech", "transcription", "all"]
)
INPUTS = frozenset({"text", "image", "audio", "file"})
FILTERS = """
    output_modalities input_modalities offset limit q category supported_parameters sort context min_price max_price
    providers model_authors arch zdr region
"""

NULLS = """
    app_id cache_discount external_user http_referer moderation_latency native_finish_reason
    native_tokens_cached native_tokens_completion native_tokens_completion_images native_tokens_prompt
    native_tokens_reasoning num_fetches num_input_audio_prompt num_media_completion num_media_prompt
    num_search_results preset_id provider_responses router service_tier upstream_id user_agent
    web_search_engine workspace_id
"""


async def models(_emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """The rows with one of the outputs (text alone when not told) and one of the inputs."""
    unknown = asked.query.keys() - set(FILTERS.split())
    if unknown:
        raise Refused(400, f"{min(unknown)}: unknown query parameter")
    outputs = words(asked.query.get("output_modalities", "text"), OUTPUTS, "output_modalities")
    inputs = words(asked.query.get("input_modalities", ""), INPUTS, "input_modalities")

    def wanted(model: Model) -> bool:
        gives = "all" in outputs or not outputs.isdisjoint(model.outputs)
        named = asked.query.get("q", "").lower() in model.id
        return gives and named and (not inputs or not inputs.isdisjoint(model.inputs))

    rows = [model.row() for model in MODELS.values() if wanted(model)]
    start, most = bound(asked, "offset", 0, 10**6), bound(asked, "limit", len(rows), 1000)
    return Answer(payload={"total_count": len(rows), "links": {"next": None}, "data": rows[start : start + most]})


def bound(asked: Asked, name: str, otherwise: int, most: int) -> int:
    """A whole number of the query, 0 to `most`."""
    text = asked.query.get(name, str(otherwise))
    if not text.isdecimal() or int(text) > most:
        raise Refused(400, f"{name}: expected a whole number up to {most}")
    return int(text)


def words(text: str, known: frozenset[str], name: str) -> set[str]:
    """A comma list of known words."""
    given = {word for word in text.split(",") if word}
    if not given <= known:
        raise Refused(400, f"{name}: unknown modality")
    return given


async def generation(emulator: OpenRouterEmulator, asked: Asked) -> Answer:
    """One bill; 404 until it is recorded."""
    wanted = asked.query.get("id", "")
    bill = next((bill for bill in emulator.ledger if bill.generation_id == wanted), None)
    if not wanted:
        raise Refused(400, "id is required")
    if bill is None or emulator.too_early(wanted):
        raise Refused(404, f"Generation {wanted} not found")
    kinds = {
        "/audio/speech": "tts",
        "/audio/transcriptions": "stt",
        "/images": "images",
        "/chat/completions": "completions",
    }
    unknown: dict[str, Any] = dict.fromkeys(NULLS.split())
    return Answer(
        payload={
            "data": {
                **unknown,
                "id": bill.generation_id,
                "api_type": kinds[bill.endpoint],
                "cancelled": False,
                "created_at": "2026-11-22T10:00:00.000Z",
                "data_region": "global",
                "finish_reason": "stop",
                "generation_time": 812,
                "is_byok": False,
                "latency": 900,
                "model": bill.model,
                "origin": "",
                "provider_name": "Emulated",
                "streamed": False,
                "tokens_completion": 0,
                "tokens_prompt": 22,
                "total_cost": bill.cost,
                "upstream_inference_cost": 0,
                "usage": bill.cost,
            }
        }
    )


async def key(emulator: OpenRouterEmulator, _asked: Asked) -> Answer:
    """The key's label, limit and spending."""
    spent = round(sum(bill.cost for bill in emulator.ledger), 9)
    budget = {"scope": "key_limit", "budget_id": None, "guardrail_id": None, "include_byok": False}
    budget |= {"limit_usd": 100, "spend_usd": spent, "remaining_usd": 100 - spent, "reset_interval": "monthly"}
    data: dict[str, Any] = {
        "label": "sk-or-v1-0e6...1c96",
        "limit": 100,
        "limit_remaining": 100 - spent,
        "limit_reset": "monthly",
        "include_byok_in_limit": False,
        "usage": spent,
        "usage_daily": spent,
        "usage_weekly": spent,
        "usage_monthly": spent,
        "byok_usage": 0,
        "byok_usage_daily": 0,
        "byok_usage_weekly": 0,
        "byok_usage_monthly": 0,
        "is_free_tier": False,
        "is_management_key": False,
        "is_provisioning_key": False,
        "creator_user_id": "user_emulated",
        "organization_id": None,
        "workspace_id": None,
        "expires_at": "2027-12-31T23:59:59Z",
        "allowed_data_regions": ["global"],
        "budgets": [{**budget, "resets_at": "2026-12-01T00:00:00Z"}],
        "effective_budget": None,
        "free_model_daily_requests": {"limit": 1000, "used": 3, "remaining": 997},
        "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated and safe to ignore."},
    }
    return Answer(payload={"data": data})
