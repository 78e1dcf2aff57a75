"""What the page that this project was created from promises, in our own words; each row is proved by a named test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """One promise with its number, and the tests (`file::name`) that prove it; a row without proofs is open."""

    number: str
    promise: str
    proofs: tuple[str, ...] = ()


REQUIREMENTS: tuple[Requirement, ...] = (
    Requirement(
        "R01", "A route may name the driver openrouter.", ("test_routes.py::test_the_page_s_own_file_is_read",)
    ),
    Requirement(
        "R02",
        "One route reaches models of any vendor by their prefixed ids.",
        ("test_selectors.py::test_the_prefix_never_reaches_the_model",),
    ),
    Requirement(
        "R03",
        "The page's routes.toml is enough: driver, default_model, model_support, auth_ref.",
        ("test_routes.py::test_the_page_s_own_file_is_read",),
    ),
    Requirement(
        "R04",
        "secrets generate prints a master key that the store opens with.",
        ("test_cli_secrets.py::test_the_page_s_bootstrap_works_as_printed",),
    ),
    Requirement(
        "R05",
        "secrets set takes --offline, --state-root, --provider and --from-env, before any daemon runs.",
        ("test_cli_secrets.py::test_the_page_s_bootstrap_works_as_printed",),
    ),
    Requirement(
        "R06",
        "serve takes --bind, --state-root, --workspace-root and --routes-file.",
        ("test_serve_http.py::test_it_serves_both_eras_and_stops_at_once_on_a_signal",),
    ),
    Requirement(
        "R07",
        "An OpenRouter route is opened by an API key; an account login on it is refused.",
        ("test_routes.py::test_an_account_login_on_an_openrouter_route_is_refused",),
    ),
    Requirement(
        "R08",
        "A selector may begin with the route's id.",
        ("test_selectors.py::test_the_prefix_never_reaches_the_model",),
    ),
    Requirement(
        "R09",
        "runtime set-model takes a selector.",
        (
            "test_seed_page.py::test_every_command_of_the_page_works_as_printed",
            "test_cli_runtime.py::test_set_model_takes_a_selector_and_is_there_for_the_next_command",
        ),
    ),
    Requirement(
        "R10",
        "sessions input takes a route, a model and a text, with files attached.",
        (
            "test_seed_page.py::test_every_command_of_the_page_works_as_printed",
            "test_cli_sessions.py::test_files_and_assets_reach_the_wire_in_the_order_of_the_command_line",
        ),
    ),
    Requirement(
        "R11",
        "provider means the route id, and the model reaches the backend without it.",
        ("test_openrouter_tools.py::test_the_route_s_prefix_never_reaches_the_wire",),
    ),
    Requirement(
        "R12",
        "Text runs.",
        (
            "test_cli_sessions.py::test_an_answer_is_one_json_object_and_the_session_goes_on",
            "test_ask_model.py::test_a_question_is_answered",
        ),
    ),
    Requirement(
        "R13",
        "Vision runs with attached images, on models that see.",
        (
            "test_cli_sessions.py::test_files_and_assets_reach_the_wire_in_the_order_of_the_command_line",
            "test_agent.py::test_a_picture_for_a_model_that_does_not_see_is_refused_with_those_that_do",
        ),
    ),
    Requirement("R14", "generate_image.", ("test_stdio_tools.py::test_three_pictures_asked_are_three_pictures_kept",)),
    Requirement("R15", "edit_image.", ("test_stdio_tools.py::test_every_tool_works",)),
    Requirement("R16", "generate_audio.", ("test_stdio_tools.py::test_every_tool_works",)),
    Requirement(
        "R17",
        "Speech becomes text, and the text belongs to the sound.",
        ("test_resources.py::test_a_transcribed_sound_has_canonical_text",),
    ),
    Requirement(
        "R18",
        "runtime get shows multimodal_input, native_web_search, image_generation and image_edit as true, false, true, true.",
        ("test_runtime.py::test_the_flags_of_an_openrouter_route_are_the_page_s",),
    ),
    Requirement(
        "R19",
        "generate_audio is there only while a route has an audio backend.",
        ("test_runtime.py::test_a_capability_switched_off_takes_its_tool_away",),
    ),
    Requirement(
        "R20",
        "Audio becomes visible through emit_output, by parts or by include_artifacts_inline.",
        ("test_openrouter_tools.py::test_audio_is_published_by_parts_and_inline",),
    ),
    Requirement(
        "R21",
        "The asset store keeps wav and mp3 as given; webm, mp4 and m4a follow.",
        ("test_assets.py::test_the_bytes_given_are_the_bytes_kept",),
    ),
    Requirement(
        "R22",
        "A microphone segment is wav or webm and nothing else.",
        ("test_assets.py::test_a_microphone_segment_is_wav_or_webm",),
    ),
    Requirement(
        "R23",
        "base_url may be left out.",
        ("test_routes.py::test_the_page_s_own_file_is_read",),
    ),
    Requirement(
        "R24",
        "OpenRouter has no web search of its own here.",
        ("test_runtime.py::test_the_flags_of_an_openrouter_route_are_the_page_s",),
    ),
)
