"""Two principals on one daemon: nothing of one crosses to the other, whatever tool, resource or URL it is tried by.

The ways are held against the tools' own schemas, so that a new argument cannot be forgotten. A handle of somebody
else's has to look like one that never was: the two answers are compared to the letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import anyio
import mcp_types as t
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from kheish_mcp.tools import TOOLS
from kheish_mcp.tools.base import schema_of
from tests.conftest import CANARY, environment
from tests.emulators.openrouter import OpenRouterEmulator
from tests.hosts import ERAS, call, result_object
from tests.sites import TRANSPORTS, Site, opened_site

pytestmark = pytest.mark.anyio

SESSION = "the-secret-plan"
ASSET, JOB = "asset-" + "a" * 26, "job-" + "a" * 26
# How a tool takes somebody's handle: each argument that names an asset, a job or a session, and the rest of the call.
ASSET_WAYS: dict[tuple[str, str], Any] = {
    ("edit_image", "image_asset_ids"): lambda handle, own: {"prompt": "x", "image_asset_ids": [own, handle]},
    ("edit_image", "mask"): lambda handle, own: {"prompt": "x", "image_asset_ids": [own], "mask": handle},
    ("transcribe_audio", "audio"): lambda handle, own: {"audio": handle},
    ("ask_model", "attachments"): lambda handle, own: {"input": "x", "attachments": [handle]},
    ("emit_output", "parts"): lambda handle, own: {"parts": [{"type": "asset", "asset_id": handle}]},
    ("emit_output", "artifact_ids"): lambda handle, own: {"content": "x", "artifact_ids": [handle]},
    ("store_asset", "source"): lambda handle, own: {"source": handle},
}
JOB_WAYS: dict[tuple[str, str], Any] = {
    ("get_job", "job_id"): lambda handle, own: {"job_id": handle, "wait_seconds": 0},
}
# A session's name is no handle: each principal has its own session of any name.
NAMESPACES = {("ask_model", "session"), ("emit_output", "session")}
PLAIN = """
    prompt size aspect_ratio count quality background output_format seed provider model wait_seconds preview save_as
    input voice format speed instructions language timestamps diarize system max_output_tokens temperature content
    include_artifacts_inline label media_type kind capability query limit
"""
VIEWS = ("", "/text", "/preview", "/provenance")


@dataclass(frozen=True, slots=True)
class Party:
    """One principal and what it has made."""

    token: str
    assets: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """A site whose openrouter route is the stand-in, and the principal whose things nobody else may see."""

    site: Site
    emulator: OpenRouterEmulator
    victim: Party

    @property
    def paid(self) -> int:
        """How often the provider was asked for something that costs."""
        return sum(seen.method == "POST" for seen in self.emulator.requests)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all: the victim's day is long, and lived once."""
    return "asyncio"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    """The site after the victim's day."""
    folder = tmp_path_factory.mktemp("two")
    with OpenRouterEmulator(key=CANARY) as emulator:
        env = environment(folder / "state", OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=emulator.base_url)
        env |= {"KHEISH_DEFAULT_ROUTE": "openrouter", "KHEISH_OPENROUTER_MODEL_DISCOVERY": "disabled"}
        async with opened_site(env, folder) as site:
            token = (await site.tokens.create("victim", "generate"))[1].reveal()
            async with site.client(token=token) as client:
                victim = await lived(client, token, emulator)
            yield World(site, emulator, victim)


@pytest.fixture(scope="module")
async def bystander(world: World) -> Party:
    """Somebody else, who makes nothing more than one picture."""
    return await newcomer(world, "bystander")


@pytest.fixture
async def intruder(world: World, request: pytest.FixtureRequest) -> Party:
    """Somebody else, new for each test, with one picture to begin with."""
    return await newcomer(world, re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[-60:].strip("-"))


async def newcomer(world: World, name: str) -> Party:
    """A new principal with one picture."""
    token = (await world.site.tokens.create(name, "generate"))[1].reveal()
    async with world.site.client(token=token) as client:
        own = await call(client, "generate_image", prompt=f"mine {name}")
    return Party(token, (own["assets"][0]["asset_id"],), (own["job_id"],))


async def lived(client: Client, token: str, emulator: OpenRouterEmulator) -> Party:
    """A principal's day: every tool once, in a session, with more assets than one page shows."""
    stored = await call(client, "store_asset", source="data:text/plain,the%20secret%20words", label="secret label")
    drawn = await call(client, "generate_image", prompt="the secret picture")
    edited = await call(client, "edit_image", prompt="secretly")
    spoken = await call(client, "generate_audio", input="The secret words.")
    heard = await call(client, "transcribe_audio", audio=spoken["assets"][0]["asset_id"])
    emulator.say("The secret answer.")
    answered = await call(client, "ask_model", input="The secret question?", session=SESSION)
    await call(client, "emit_output", content="The secret output.", session=SESSION)
    made = [drawn, edited, spoken]
    assets = [stored["asset_id"], heard["transcript_asset_id"], *(each["assets"][0]["asset_id"] for each in made)]
    listed = [str(resource.uri) for resource in (await client.list_resources()).resources]
    assert {f"asset://{asset_id}" for asset_id in assets} <= set(listed)
    jobs = [each["job_id"] for each in (*made, heard, answered)]
    return Party(token, tuple(assets), tuple(jobs), assets[-1].replace("asset-", "after-"))


def test_every_argument_of_every_tool_is_known_to_these_tests():
    ways = set(ASSET_WAYS) | set(JOB_WAYS) | NAMESPACES
    arguments = {(tool.name, name) for tool in TOOLS for name in schema_of(tool.input)["properties"]}
    assert {way for way in arguments if way[1] not in PLAIN.split()} == ways


async def answer_to(client: Client, name: str, arguments: dict[str, Any]) -> str:
    """What a tool says, whatever it is."""
    result = await client.call_tool(name, arguments)
    return json.dumps([result.is_error, [block.model_dump(mode="json") for block in result.content]])


async def said_of(client: Client, uri: str) -> str:
    """What is said of a resource, whatever it is."""
    try:
        return (await client.read_resource(uri)).model_dump_json()
    except MCPError as refusal:
        return refusal.error.model_dump_json()


def alike(answer: str, handle: str) -> str:
    """An answer with the handle that was tried taken out."""
    return answer.replace(handle, "HANDLE").replace(handle.partition("-")[2], "HANDLE")


@pytest.mark.parametrize("mode", ERAS)
async def test_a_foreign_handle_and_an_unknown_one_look_the_same_to_every_tool(
    world: World, bystander: Party, mode: str
):
    victim = world.victim
    paid, kinds = world.paid, ((ASSET_WAYS, victim.assets, ASSET), (JOB_WAYS, victim.jobs, JOB))
    async with world.site.client("streamable", mode, bystander.token) as client:
        for ways, handles, unknown in kinds:
            for (tool, argument), way in ways.items():
                strange = await answer_to(client, tool, way(unknown, bystander.assets[0]))
                assert '"not_found' in strange.replace("\\", ""), (tool, argument, strange)
                for handle in handles:
                    foreign = await answer_to(client, tool, way(handle, bystander.assets[0]))
                    assert alike(foreign, handle) == alike(strange, unknown), (tool, argument)
                if ways is ASSET_WAYS:
                    by_uri = await answer_to(client, tool, way(f"asset://{handles[0]}", bystander.assets[0]))
                    assert "secret" not in by_uri
                    assert json.loads(by_uri)[0] is True
    assert world.paid == paid  # refused before anybody was asked


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_a_foreign_resource_and_an_unknown_one_look_the_same(
    world: World, bystander: Party, transport: str, mode: str
):
    victim = world.victim
    async with world.site.client(transport, mode, bystander.token) as client:
        for view in VIEWS:
            strange = await said_of(client, f"asset://{ASSET}{view}")
            assert "not_found" in strange
            for handle in victim.assets:
                assert alike(await said_of(client, f"asset://{handle}{view}"), handle) == alike(strange, ASSET)
        foreign, strange = [await said_of(client, f"kheish://sessions/{name}") for name in (SESSION, "nothing")]
        assert foreign.replace(SESSION, "nothing") == strange
        for cursor in (victim.cursor, "after-" + "a" * 26):
            with pytest.raises(MCPError) as refusal:
                await client.list_resources(cursor=cursor)
            assert (refusal.value.error.code, refusal.value.error.message) == (-32602, "Unknown cursor.")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ERAS)
async def test_no_list_tells_of_the_other(world: World, bystander: Party, transport: str, mode: str):
    victim = world.victim
    async with world.site.client(transport, mode, bystander.token) as client:
        listed = (await client.list_resources()).model_dump_json()
        reference = t.ResourceTemplateReference(type="ref/resource", uri="asset://{asset_id}")
        completed = [
            (await client.complete(reference, {"name": name, "value": value})).model_dump_json()
            for name, value in (
                ("asset_id", ""),
                ("asset_id", victim.assets[0][:12]),
                ("session", ""),
                ("session", "the"),
            )
        ]
        costs = json.loads((await client.read_resource("kheish://costs")).contents[0].text)
        models = await answer_to(client, "list_models", {})
    seen = "".join([listed, *completed, models])
    assert bystander.assets[0] in listed
    assert not [handle for handle in (*victim.assets, *victim.jobs, SESSION) if handle in seen]
    assert "secret" not in seen
    assert costs["calls"] == 1  # its own picture


@pytest.mark.parametrize("mode", ERAS)
async def test_the_same_words_and_bytes_are_each_one_s_own(world: World, intruder: Party, mode: str):
    victim = world.victim
    async with world.site.client("streamable", mode, intruder.token) as client:
        paid = world.paid
        drawn = await call(client, "generate_image", prompt="the secret picture")
        assert world.paid == paid + 1  # no result of somebody else's call is handed out
        stored = await call(client, "store_asset", source="data:text/plain,the%20secret%20words")
        assert stored["asset_id"] not in victim.assets
        assert drawn["job_id"] not in victim.jobs
        assert "secret label" not in (await client.list_resources()).model_dump_json()
        edited = await call(client, "edit_image", prompt="make it blue")
        provenance = json.loads(
            (await client.read_resource(f"{edited['assets'][0]['uri']}/provenance")).contents[0].text
        )
        assert provenance["sources"] == [drawn["assets"][0]["asset_id"]]  # its own last picture
        await call(client, "emit_output", content="Mine.", session=SESSION)
        journal = await said_of(client, f"kheish://sessions/{SESSION}")
        assert "Mine." in journal
        assert "The secret output." not in journal


async def asked_of(token: str, world: World, method: str, task_id: str) -> tuple[int, dict[str, Any]]:
    """The status and the answer to a request about a task, from a client that knows tasks."""
    meta = {
        t.PROTOCOL_VERSION_META_KEY: ERAS[0],
        t.CLIENT_INFO_META_KEY: {"name": "test", "version": "1"},
        t.CLIENT_CAPABILITIES_META_KEY: {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": task_id, "_meta": meta}}
    headers = {"MCP-Protocol-Version": ERAS[0], "Mcp-Method": method, "Mcp-Name": task_id}
    async with world.site.http(token) as http:
        answer = await http.post(
            "/mcp", json=body, headers={**headers, "Accept": "application/json, text/event-stream"}
        )
        return answer.status_code, answer.json()


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_a_foreign_task_and_an_unknown_one_look_the_same(world: World, bystander: Party, method: str):
    strange = await asked_of(bystander.token, world, method, JOB)
    assert strange[1]["error"]["code"] == -32602
    for job in world.victim.jobs:
        assert await asked_of(bystander.token, world, method, job) == strange
        assert "error" not in (await asked_of(world.victim.token, world, method, job))[1]


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-3"}, {"If-None-Match": "*"}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_foreign_download_and_an_unknown_one_look_the_same(
    world: World, bystander: Party, method: str, headers: dict[str, str]
):
    async with world.site.http(bystander.token) as http:
        strange = await http.request(method, f"/assets/{ASSET}", headers=headers)
        assert strange.status_code == 404
        for handle in world.victim.assets:
            foreign = await http.request(method, f"/assets/{handle}", headers=headers)
            assert (foreign.status_code, alike(foreign.text, handle)) == (404, alike(strange.text, ASSET))


async def test_a_signed_url_opens_one_asset_of_one_owner(world: World, intruder: Party):
    async with world.site.client(token=world.victim.token) as client:
        drawn, again = [await call(client, "generate_image", prompt=f"signed {number}") for number in range(2)]
    url, other = drawn["assets"][0]["url"], again["assets"][0]["url"]
    path, _, query = url.partition("?")
    async with world.site.http() as nobody, world.site.http(intruder.token) as somebody:
        assert (await nobody.get(url)).status_code == 200
        assert (await nobody.get(f"{other.partition('?')[0]}?{query}")).status_code == 401
        assert (await somebody.get(f"{other.partition('?')[0]}?{query}")).status_code == 404
        own = (await world.site.tokens.verify(intruder.token)).token_id  # type: ignore[union-attr]
        assert (await somebody.get(f"{path}?{re.sub('owner=[^&]*', f'owner={own}', query)}")).status_code == 404


async def test_an_upload_is_its_sender_s_alone(world: World, intruder: Party):
    secret = b"the secret words"  # what the victim has stored
    async with world.site.http(intruder.token) as http, world.site.client(token=world.victim.token) as victim:
        sent = await http.post("/assets?name=words.txt", content=secret, headers={"Content-Type": "text/plain"})
        assert sent.status_code == 201
        assert sent.json()["asset_id"] not in world.victim.assets
        strange = await said_of(victim, f"asset://{ASSET}")
        assert alike(await said_of(victim, sent.json()["uri"]), sent.json()["asset_id"]) == alike(strange, ASSET)


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
async def test_nobody_hears_of_the_other_s_changes(world: World):
    # Somebody without a thing of its own: nothing else is to be heard.
    intruder = Party((await world.site.tokens.create("listener", "generate"))[1].reveal())
    theirs_uri, listeners = f"asset://{world.victim.assets[0]}", world.site.daemon.listeners
    session = "kheish://sessions/theirs"
    watched = [theirs_uri, session, "kheish://costs"]
    heard: list[str] = []
    marked = anyio.Event()

    async def hear(message: Any) -> None:
        heard.append(getattr(message, "method", ""))
        if heard[-1] == "notifications/tools/list_changed":
            marked.set()

    async with (
        world.site.client("sse", "legacy", intruder.token, message_handler=hear) as legacy,
        world.site.client(token=intruder.token) as modern,
        world.site.client(token=world.victim.token) as own,
        modern.listen(tools_list_changed=True, resources_list_changed=True, resource_subscriptions=watched) as intruded,
        own.listen(resources_list_changed=True, resource_subscriptions=watched) as ours,
    ):
        for uri in watched:
            await legacy.subscribe_resource(uri)
        await call(own, "store_asset", source="data:text/plain,more%20secrets")
        owner = (await world.site.tokens.verify(world.victim.token)).token_id  # type: ignore[union-attr]
        with anyio.fail_after(30):
            assert type(await anext(ours)).__name__ == "ResourcesListChanged"
            await listeners.resource_updated(theirs_uri, owner)
            await call(own, "generate_image", prompt="their pier")
            await call(own, "emit_output", content="Theirs.", session="theirs")
            waited_for = set(watched)
            while waited_for:
                waited_for.discard(str(getattr(await anext(ours), "uri", "")))
            await listeners.tools_changed()  # for all: whatever was to be heard before has been heard
            assert type(await anext(intruded)).__name__ == "ToolsListChanged"
            await marked.wait()
    assert heard == ["notifications/tools/list_changed"]


async def test_interleaved_calls_bring_each_its_own(world: World):
    made: dict[str, list[dict[str, Any]]] = {"one": [], "two": []}
    told: dict[str, list[str]] = {"one": [], "two": []}

    async def live(name: str, mode: str) -> None:
        _, secret = await world.site.tokens.create(name, "generate")

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            told[name].append(message or "")

        async with world.site.client("streamable", mode, secret.reveal()) as client:
            for number in range(4):
                result = await client.call_tool(
                    "generate_image", {"prompt": f"{name} {number % 2}"}, progress_callback=hear
                )
                made[name].append(result_object(result))
                await call(client, "emit_output", content=f"{name} {number}", session="same")
            journal = await said_of(client, "kheish://sessions/same")
            own, other = re.findall(name, journal), re.findall("two" if name == "one" else "one", journal)
            assert own
            assert not other

    async with anyio.create_task_group() as group:
        group.start_soon(live, "one", ERAS[0])
        group.start_soon(live, "two", ERAS[1])
    ids = {name: {asset["asset_id"] for each in results for asset in each["assets"]} for name, results in made.items()}
    assert len(ids["one"]) == len(ids["two"]) == 4
    assert not ids["one"] & ids["two"]
    assert not {each["job_id"] for each in made["one"]} & {each["job_id"] for each in made["two"]}
