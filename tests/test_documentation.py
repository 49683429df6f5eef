"""What the README and the examples show is run as it stands, but for the ports."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.sync.client import connect

import stelar_runtime_asyncio
import stelar_runtime_trio
from stelar_proto import ws
from stelar_proto.server import ServerConfig

ROOT = Path(__file__).parent.parent


def blocks_of(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


BLOCKS = blocks_of("README.md")


def server_of_the_readme(runtime: str) -> Any:
    source = BLOCKS[0].replace("asyncio.run(", "# ").replace("port=3000, tcp_port=3001", "port=0, tcp_port=0")
    namespace: dict[str, Any] = {}
    exec(source.replace("stelar_runtime_asyncio", f"stelar_runtime_{runtime}"), namespace)
    return namespace["server"]


async def client_of_the_readme(url: str, runtime: str, shown: list[Any]) -> None:
    source = BLOCKS[1].replace("asyncio.run(", "# ").replace('"localhost:3000"', repr(url))
    namespace: dict[str, Any] = {"print": shown.append}
    exec(source.replace("stelar_runtime_asyncio", f"stelar_runtime_{runtime}"), namespace)
    await namespace["main"]()


@pytest.mark.parametrize("wire", ["ws", "tcp"])
def test_the_first_program_of_the_readme_works_on_asyncio(wire: str) -> None:
    async def main() -> None:
        server = server_of_the_readme("asyncio")
        async with server, asyncio.timeout(10):
            port = server.get_port() if wire == "ws" else server.get_tcp_port()
            url = f"{wire}://localhost:{port}"
            await client_of_the_readme(url, "asyncio", shown)

    shown: list[Any] = []
    asyncio.run(main())
    assert shown == [6]


@pytest.mark.parametrize("wire", ["ws", "tcp"])
def test_the_first_program_of_the_readme_works_on_trio(wire: str) -> None:
    async def main() -> None:
        server = server_of_the_readme("trio")
        with trio.fail_after(10):
            async with server:
                port = server.get_port() if wire == "ws" else server.get_tcp_port()
                url = f"{wire}://localhost:{port}"
                await client_of_the_readme(url, "trio", shown)

    shown: list[Any] = []
    trio.run(main)
    assert shown == [6]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_the_plain_websocket_of_the_readme_works(runtime: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    source = BLOCKS[2].replace("8765", port).replace("stelar_runtime_asyncio", f"stelar_runtime_{runtime}")
    shown: list[Any] = []
    namespace: dict[str, Any] = {"print": lambda *words: shown.append(words)}
    exec(source, namespace)
    asyncio.run(namespace["main"]()) if runtime == "asyncio" else trio.run(namespace["main"])
    [(message, latency)] = shown
    assert message == "hola"
    assert latency.endswith(" s")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "program",
    blocks_of("docs/websocket.md") + blocks_of("docs/server.md") + blocks_of("docs/client.md"),
    ids=lambda program: program.split("\n")[0],
)
def test_the_programs_of_the_guides_run(program: str, runtime: str) -> None:
    package = stelar_runtime_asyncio if runtime == "asyncio" else stelar_runtime_trio
    namespace: dict[str, Any] = dict(vars(package))
    exec(program, namespace)
    asyncio.run(namespace["main"]()) if runtime == "asyncio" else trio.run(namespace["main"])


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, (target, heading)


def test_the_guide_tells_of_every_option_of_a_server_when_a_change_of_it_holds() -> None:
    guide = (ROOT / "docs" / "server.md").read_text()
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", guide.partition("| a change holds |")[2], re.MULTILINE)
    told = {
        name: words.startswith("never") for names, words in rows for name in re.findall(r"`(\w+)`", names)
    }
    options = {option.name: option for option in dataclasses.fields(ServerConfig) if option.init}
    assert told == {name: "instead" in option.metadata for name, option in options.items()}


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "program",
    [block for block in blocks_of("docs/testing.md") if "main" in block],
    ids=["in memory", "virtual time", "not perfect", "by hand"],
)
def test_the_programs_of_the_guide_to_testing_run(program: str, runtime: str) -> None:
    package, loop = (stelar_runtime_asyncio, asyncio) if runtime == "asyncio" else (stelar_runtime_trio, trio)
    testing = import_module(f"{package.__name__}.testing")
    namespace: dict[str, Any] = {**vars(package), "testing": testing, "sleep": vars(loop)["sleep"]}
    exec(program, namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    for test in tests or [lambda: testing.run(namespace["main"])]:
        test()


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_the_fixture_of_the_guide_to_testing_puts_tests_into_virtual_time(
    runtime: str, tmp_path: Path
) -> None:
    [fixture] = [block for block in blocks_of("docs/testing.md") if "main" not in block]
    for name in ("asyncio.testing", '"asyncio"'):
        fixture = fixture.replace(name, name.replace("asyncio", runtime))
    test = "import anyio\n@pytest.mark.anyio\nasync def test_a_day():\n    await anyio.sleep(86400)\n"
    (tmp_path / "test_time.py").write_text(fixture + test)
    command = [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    ran = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert "1 passed" in ran.stdout, ran.stdout


def test_the_echo_server_of_the_readme_echoes_another_library() -> None:
    namespace: dict[str, Any] = {}
    exec(BLOCKS[3], namespace)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with ours:
            namespace["echo"](ws.Connection(ws.Role.SERVER), ours)

    thread = threading.Thread(target=serve)
    thread.start()
    with connect("ws://localhost/", sock=theirs) as client:
        client.send("hola")
        assert client.recv(timeout=10) == "hola"
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_the_example_client_says_something_to_the_example_server() -> None:
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        port, tcp_port = (str(probe.getsockname()[1]) for probe in (first, second))
    server = subprocess.Popen([sys.executable, "examples/chat_server.py", port, tcp_port], cwd=ROOT)
    try:
        wait_until_it_listens(int(tcp_port))
        with connect(f"ws://127.0.0.1:{port}") as watcher:
            watcher.send('{"event":"enter","data":{"room":"lobby"},"_ackName":"enter"}')
            client = subprocess.Popen(
                [sys.executable, "examples/chat_client.py", f"tcp://127.0.0.1:{tcp_port}"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                said = [watcher.recv(timeout=10) for _ in range(4)]
                assert '"event":"said"' in str(said[-1])
                assert '"text":"hola"' in str(said[-1])
            finally:
                server.terminate()  # the client ends with its connection
                shown, _ = client.communicate(timeout=10)
            assert shown.startswith("2 here, I am ")
            assert server.wait(timeout=10) == 0
    finally:
        server.kill()
        server.wait()


def wait_until_it_listens(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
        else:
            return
    pytest.fail(f"nothing listens on port {port}")


DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_the_files_and_headings_that_are_linked_are_there(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target), link
