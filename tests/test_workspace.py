"""Paths under the workspace root are read and written; no spelling, link or race leads outside."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kheish_mcp.errors import (
    FailedPrecondition,
    InvalidArgument,
    KheishError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from kheish_mcp.formats import FORMATS
from kheish_mcp.sources.beneath import Opener, best_opener, open_by_walk, open_in_kernel
from kheish_mcp.sources.workspace import MEDIA_ENDINGS, Workspace, with_extension

pytestmark = pytest.mark.anyio
OPENERS = [open_by_walk, open_in_kernel] if best_opener() is open_in_kernel else [open_by_walk]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "pictures").mkdir(parents=True)
    (root / "pictures" / "cat.png").write_bytes(b"cat")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "cat.png").write_bytes(b"outside")
    return root


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.__name__)
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
def workspace(root: Path, opener: Opener) -> Workspace:
    return Workspace(root, max_bytes=1000, opener=opener)


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.skipif(sys.platform != "linux", reason="openat2 is Linux's")
def test_the_kernel_or_the_walk_is_chosen_by_trying():
    assert best_opener() in (open_in_kernel, open_by_walk)
    assert best_opener() is best_opener()


@pytest.mark.parametrize(
    "path", ["pictures/cat.png", "./pictures/cat.png", "pictures//cat.png", "pictures/./cat.png", "pictures/cat.png/"]
)
async def test_a_file_is_read_with_its_name(workspace: Workspace, path: str):
    media = await workspace.read(path)
    assert (media.data, media.media_type, media.name) == (b"cat", "", "cat.png")


async def test_an_absolute_path_under_the_root_is_read(workspace: Workspace, root: Path):
    assert (await workspace.read(str(root / "pictures" / "cat.png"))).data == b"cat"


async def test_an_absolute_path_is_read_by_the_roots_real_name_too(root: Path, opener: Opener):
    alias = root.parent / "alias"
    alias.symlink_to(root)
    for spelling in (alias, root):
        assert (await Workspace(alias, opener=opener).read(str(spelling / "pictures" / "cat.png"))).data == b"cat"


HOSTILE = [
    "../outside/cat.png",
    "pictures/../../outside/cat.png",
    "pictures/../pictures/cat.png",
    "pictures/..",
    "..",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "/proc/self/environ",
    "~",
    "~/cat.png",
    "~root/cat.png",
    "..\\outside\\cat.png",
    "pictures\\cat.png",
    "\\\\server\\share\\cat.png",
    "C:\\cat.png",
    "C:/cat.png",
    "c:cat.png",
    "pictures/cat.png\x00.jpg",
    "\x00",
    "pictures/cat.png\n",
    "pictures/\x1b[31mcat.png",
    "pictures/\u202egnp.cat",
    "pictures/\u200bcat.png",
    "pictures/\U000e0041cat.png",
    "pictures/\ud800.png",
    "",
    "   ",
    ".",
    "./",
    ".env",
    ".ssh/id_rsa",
    "pictures/.hidden/cat.png",
    "...",
    "a" * 1025,
    "a/" * 33 + "cat.png",
]


@pytest.mark.parametrize("path", HOSTILE)
async def test_a_hostile_spelling_is_neither_read_nor_written(workspace: Workspace, root: Path, path: str):
    before = everything_in(root.parent)
    for refused in (workspace.read(path), workspace.check_save(path), workspace.save(path, b"x", "png")):
        with pytest.raises((InvalidArgument, PermissionDenied)) as caught:
            await refused
        assert caught.value.hint
    assert everything_in(root.parent) == before


async def test_what_is_outside_is_refused_alike_whether_it_exists_or_not(workspace: Workspace, root: Path):
    (root / "there").symlink_to("/etc/passwd")
    (root / "nowhere").symlink_to("/etc/no-such-file")
    for pair in (("/etc/passwd", "/etc/no-such-file"), ("../outside/cat.png", "../none"), ("there", "nowhere")):
        said = []
        for path in pair:
            with pytest.raises(PermissionDenied) as caught:
                await workspace.read(path)
            said.append(caught.value.as_json())
        assert said[0] == said[1]


async def test_a_root_that_only_begins_alike_is_outside(workspace: Workspace, root: Path):
    evil = root.with_name("root-evil")
    evil.mkdir()
    (evil / "cat.png").write_bytes(b"outside")
    with pytest.raises(PermissionDenied):
        await workspace.read(str(evil / "cat.png"))


@pytest.mark.parametrize("target", ["../outside", "/etc", "pictures", "."])
async def test_a_linked_folder_is_not_entered(workspace: Workspace, root: Path, target: str):
    (root / "link").symlink_to(target)
    for refused in (
        workspace.read("link/cat.png"),
        workspace.check_save("link/new.png"),
        workspace.save("link/new.png", b"x", "png"),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    assert not (root.parent / "outside" / "new.png").exists()


@pytest.mark.parametrize("target", ["pictures/cat.png", "../outside/cat.png", "/etc/passwd", "/proc/self/environ"])
async def test_a_linked_file_is_not_read(workspace: Workspace, root: Path, target: str):
    (root / "link.png").symlink_to(target)
    with pytest.raises(PermissionDenied):
        await workspace.read("link.png")


async def test_a_second_hard_link_is_not_read(workspace: Workspace, root: Path):
    (root / "hard.png").hardlink_to(root.parent / "outside" / "cat.png")
    with pytest.raises(PermissionDenied, match="second name"):
        await workspace.read("hard.png")


async def test_a_fifo_a_socket_and_a_folder_are_not_read(workspace: Workspace, root: Path, tmp_path: Path):
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        for path in ("fifo", "socket", "pictures"):
            with pytest.raises(PermissionDenied, match="plain files"):
                await workspace.read(path)


async def test_a_device_is_not_read(opener: Opener):
    with pytest.raises(PermissionDenied, match="plain files"):
        await Workspace(Path("/dev"), opener=opener).read("null")


@pytest.mark.parametrize("path", ["none.png", "none/cat.png", "pictures/cat.png/more"])
async def test_what_is_not_there_is_not_found(workspace: Workspace, path: str):
    with pytest.raises(NotFound) as caught:
        await workspace.read(path)
    assert caught.value.hint


async def test_a_file_over_the_limit_is_refused_before_it_is_read(workspace: Workspace, root: Path):
    (root / "limit.png").write_bytes(b"x" * 1000)
    with (root / "huge.png").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert len((await workspace.read("limit.png")).data) == 1000
    with pytest.raises(ResourceExhausted, match="1000 bytes"):
        await workspace.read("huge.png")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="such files are Linux's")
async def test_a_file_that_is_longer_than_it_says_is_cut_off(opener: Opener):
    """Files of /proc claim to be empty; one that grows while it is read looks the same."""
    with pytest.raises(ResourceExhausted):
        await Workspace(Path("/proc/self"), max_bytes=10, opener=opener).read("smaps")


async def test_a_missing_root_says_how_to_mend_it(tmp_path: Path):
    workspace = Workspace(tmp_path / "none")
    for refused in (workspace.read("a"), workspace.check_save("a"), workspace.save("a", b"", "png")):
        with pytest.raises(FailedPrecondition) as caught:
            await refused
        assert "--workspace-root" in (caught.value.hint or "")


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_no_descriptor_stays_open(workspace: Workspace, root: Path):
    (root / "link").symlink_to("/etc")
    before = descriptors()
    for path in ("pictures/cat.png", "pictures", "none/x", "link/passwd", "pictures/cat.png/x"):
        for asked in (workspace.read(path), workspace.check_save(path), workspace.save(path, b"x", "png")):
            try:
                await asked
            except KheishError:
                continue
    assert descriptors() == before


RENAME_EXCHANGE = 2
AT_FDCWD = -100
racing = pytest.mark.skipif(sys.platform != "linux", reason="swapping two names at once is Linux's")


@contextmanager
def flipping(inner: Path, outside: Path) -> Generator[list[int]]:
    """`inner` is a folder and a link to `outside` by turns, as fast as a thread can; gives the count of turns."""
    link = inner.with_name("link")
    link.symlink_to(outside)
    swap = ctypes.CDLL(None).renameat2
    stop, turns = threading.Event(), [0]

    def flip() -> None:
        while not stop.is_set():
            assert swap(AT_FDCWD, bytes(inner), AT_FDCWD, bytes(link), RENAME_EXCHANGE) == 0
            turns[0] += 1

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield turns
    finally:
        stop.set()
        thread.join()


@racing
async def test_a_folder_that_turns_into_a_link_never_lets_a_read_out(workspace: Workspace, root: Path):
    seen: dict[str, int] = {}
    with flipping(root / "pictures", root.parent / "outside") as turns:
        for _ in range(1500):
            try:
                outcome = (await workspace.read("pictures/cat.png")).data.decode()
            except PermissionDenied:
                outcome = "refused"
            seen[outcome] = seen.get(outcome, 0) + 1
    assert turns[0] > 10
    assert set(seen) == {"cat", "refused"}


@racing
async def test_a_folder_that_turns_into_a_link_never_lets_a_write_out(workspace: Workspace, root: Path):
    written = 0
    with flipping(root / "pictures", root.parent / "outside"):
        for number in range(400):
            try:
                await workspace.save(f"pictures/{number}.png", b"x", "png")
                written += 1
            except PermissionDenied:
                continue
    assert 0 < written < 400
    assert everything_in(root.parent / "outside") == {"cat.png"}


async def test_a_save_makes_folders_and_says_where_it_wrote(workspace: Workspace, root: Path):
    await workspace.check_save("new/deep/cat.png")
    assert not (root / "new").exists()
    path = await workspace.save("new/deep/cat.png", b"new", "png")
    assert path == str(root / "new" / "deep" / "cat.png")
    assert (root / "new" / "deep" / "cat.png").read_bytes() == b"new"


async def test_a_save_by_an_absolute_path_under_the_root_is_the_same(workspace: Workspace, root: Path):
    assert await workspace.save(str(root / "a.png"), b"x", "png") == str(root / "a.png")


async def test_nothing_is_ever_overwritten(workspace: Workspace, root: Path):
    names = [Path(await workspace.save("pictures/cat.png", bytes([n]), "png")).name for n in range(3)]
    assert names == ["cat-2.png", "cat-3.png", "cat-4.png"]
    assert (root / "pictures" / "cat.png").read_bytes() == b"cat"
    assert [(root / "pictures" / name).read_bytes() for name in names] == [b"\0", b"\1", b"\2"]


async def test_a_link_at_the_target_is_left_alone(workspace: Workspace, root: Path):
    (root / "a.png").symlink_to(root.parent / "outside" / "planted.png")
    assert await workspace.save("a.png", b"x", "png") == str(root / "a-2.png")
    assert not (root.parent / "outside" / "planted.png").exists()


async def test_savers_at_once_each_get_a_name(workspace: Workspace, root: Path):
    import anyio

    paths: list[str] = []

    async def save(n: int) -> None:
        paths.append(await workspace.save("same.png", bytes([n]), "png"))

    async with anyio.create_task_group() as group:
        for n in range(16):
            group.start_soon(save, n)
    assert len(set(paths)) == 16
    assert {(root / name).read_bytes() for name in everything_in(root) if "same" in name} == {
        bytes([n]) for n in range(16)
    }


@pytest.mark.parametrize("path", ["folder/", "folder/.", "a" * 201, "ä" * 101])
async def test_a_name_that_no_file_can_have_is_refused_before_anything_is_spent(workspace: Workspace, path: str):
    with pytest.raises(InvalidArgument):
        await workspace.check_save(path)


async def test_a_file_where_a_folder_should_be_is_refused(workspace: Workspace):
    for refused in (workspace.check_save("pictures/cat.png/a.png"), workspace.save("pictures/cat.png/a", b"", "png")):
        with pytest.raises(InvalidArgument, match="in the way"):
            await refused


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_cannot_be_written_to_is_refused_beforehand(workspace: Workspace, root: Path):
    (root / "pictures").chmod(0o500)
    with pytest.raises(PermissionDenied):
        await workspace.check_save("pictures/a.png")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
async def test_a_full_disk_leaves_no_half_file(root: Path):
    import resource
    import signal

    workspace = Workspace(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(KheishError):
            await workspace.save("big.png", b"x" * 100_000, "png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not (root / "big.png").exists()


@pytest.mark.parametrize(
    ("name", "extension", "true"),
    [
        ("cat", "png", "cat.png"),
        ("cat.png", "png", "cat.png"),
        ("CAT.PNG", "png", "CAT.PNG"),
        ("cat.jpg", "png", "cat.png"),
        ("cat.jpeg", "jpg", "cat.jpeg"),
        ("cat.mp3", "wav", "cat.wav"),
        ("v1.2", "png", "v1.2.png"),
        ("cat.", "png", "cat.png"),
        ("a.b.jpg", "png", "a.b.png"),
        ("talk.srt", "txt", "talk.srt"),
        ("setup.py", "txt", "setup.py.txt"),
        ("page.html", "txt", "page.html.txt"),
        ("run.sh", "png", "run.sh.png"),
        ("cat.png", "xyz", "cat.xyz"),
    ],
)
def test_a_saved_file_says_what_it_is(name: str, extension: str, true: str):
    assert with_extension(name, extension) == true


def test_every_formats_own_ending_is_kept():
    for form in FORMATS:
        assert with_extension(f"a.{form.extension}", form.extension) == f"a.{form.extension}"


def test_no_media_ending_is_one_that_a_system_runs():
    assert not MEDIA_ENDINGS & {"sh", "py", "js", "html", "htm", "exe", "bat", "cmd", "desktop", "ps1", "app"}
