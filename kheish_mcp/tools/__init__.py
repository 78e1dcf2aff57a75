"""The tools, in the order in which a client sees them."""

from __future__ import annotations

from .ask_model import TOOL as ASK_MODEL
from .base import Tool
from .edit_image import TOOL as EDIT_IMAGE
from .emit_output import TOOL as EMIT_OUTPUT
from .generate_audio import TOOL as GENERATE_AUDIO
from .generate_image import TOOL as GENERATE_IMAGE
from .get_job import TOOL as GET_JOB
from .list_models import TOOL as LIST_MODELS
from .store_asset import TOOL as STORE_ASSET
from .transcribe_audio import TOOL as TRANSCRIBE_AUDIO

TOOLS: tuple[Tool, ...] = (
    GENERATE_IMAGE,
    EDIT_IMAGE,
    GENERATE_AUDIO,
    TRANSCRIBE_AUDIO,
    ASK_MODEL,
    EMIT_OUTPUT,
    STORE_ASSET,
    LIST_MODELS,
    GET_JOB,
)
