"""The house rules: what may import what, and that the two runtimes are one in all that a user sees."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stelar_runtime_asyncio
import stelar_runtime_trio

ROOT = Path(__file__).parent.parent
PROTO = ROOT / "stelar_proto"
PACKAGES = ("stelar_proto", "stelar_runtime_asyncio", "stelar_runtime_trio", "stelar_system")

# From the bottom up: a folder or module may import those above it in this list, and itself.
LAYERS = {
    "errors": set[str](),
    "buffer": set[str](),
    "ws": {"errors", "buffer"},
    "tcp": {"errors", "buffer"},
    "proxy_protocol": {"errors"},
    "messages": {"errors"},
    "wire": {"errors", "messages", "ws", "tcp"},
    "channel": {"errors", "ws", "tcp"},
    "plain": {"errors", "ws", "channel"},
    "testing": {"channel"},
    "session": {"errors", "messages", "ws", "tcp", "wire", "channel"},
    "server": {"errors", "proxy_protocol", "messages", "ws", "tcp", "wire", "channel", "session"},
    "client": {"errors", "messages", "ws", "tcp", "wire", "channel", "session"},
    "demo": {"errors", "messages", "server", "client"},
}
# The world: sockets, clocks, chance, tasks, the file system.
WORLDLY = {
    "asyncio",
    "trio",
    "anyio",
    "socket",
    "ssl",
    "select",
    "selectors",
    "time",
    "random",
    "secrets",
} | {
    "os",
    "threading",
    "signal",
    "subprocess",
}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """The absolute names of everything that ``path`` imports, types included."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            yield ".".join(module)
            yield from (".".join([*module, alias.name]) for alias in node.names)


def layer_of(path: Path) -> str:
    return path.relative_to(PROTO).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(PROTO), ids=lambda path: str(path.relative_to(PROTO)))
def test_a_pure_module_imports_only_downwards_and_nothing_of_the_world(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        assert list(imports_of(path)) == []
        return
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        assert top not in WORLDLY, f"{name} belongs to the world"
        if top != "stelar_proto":
            assert top in sys.stdlib_module_names, f"{name} is not in the standard library"
        elif layer != "errors":  # see the next test
            below = rest.partition(".")[0]
            assert below in ("", layer) or below in LAYERS[layer], f"{layer} may not reach {below}"


def test_errors_names_types_of_ws_and_imports_none_of_them() -> None:
    """``errors`` names a type of ``ws`` in an annotation; at run time it imports nothing of the project."""
    loaded = run("import sys, stelar_proto.errors; print([m for m in sys.modules if m.startswith('stelar')])")
    assert loaded == "['stelar_proto', 'stelar_proto.errors']"


@pytest.mark.parametrize("codec", ["ws", "tcp"])
def test_a_codec_alone_loads_no_socket_and_no_event_loop(codec: str) -> None:
    loaded = run(f"import sys, stelar_proto.{codec}; print(*sys.modules)").split()
    assert not {"asyncio", "trio", "ssl", "socket", "selectors", "logging", "threading"} & set(loaded)
    other = "tcp" if codec == "ws" else "ws"
    assert f"stelar_proto.{other}" not in loaded


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


# --- The runtimes -------------------------------------------------------------------------------------------

RUNTIMES = (stelar_runtime_asyncio, stelar_runtime_trio)


def test_what_is_for_tests_is_loaded_by_nobody_else() -> None:
    for path in (path for package in PACKAGES for path in modules(ROOT / package)):
        if path.stem != "testing" and path.parent.name != "testing":
            assert not any("testing" in name.split(".") for name in imports_of(path)), path


def test_both_runtimes_have_the_same_files_and_names() -> None:
    folders = [Path(str(runtime.__file__)).parent for runtime in RUNTIMES]
    first, second = ({path.name for path in modules(folder)} for folder in folders)
    assert first == second
    assert stelar_runtime_asyncio.__all__ == stelar_runtime_trio.__all__


def test_what_both_runtimes_ask_of_the_system_knows_no_loop_and_no_protocol() -> None:
    for path in modules(ROOT / "stelar_system"):
        names = list(imports_of(path))
        assert not {name.split(".")[0] for name in names} & {"asyncio", "trio", "stelar_runtime_asyncio"}
        layers = {name.split(".")[1] for name in names if name.startswith("stelar_proto.")}
        assert layers <= {"errors", "channel"}


@pytest.mark.parametrize("name", ["StelarServer", "StelarClient", "WebSocketServer", "WebSocketConnection"])
def test_both_runtimes_have_the_same_signatures(name: str) -> None:
    first, second = (public_signatures(getattr(runtime, name)) for runtime in RUNTIMES)
    if name.endswith("Server"):
        second.pop("serve")  # the form that `await nursery.start(server.serve)` asks for
    assert first == second


@pytest.mark.parametrize("name", ["serve_websocket", "connect_websocket"])
def test_both_runtimes_have_the_same_functions(name: str) -> None:
    first, second = (getattr(runtime, name) for runtime in RUNTIMES)
    assert str(inspect.signature(first)) == str(inspect.signature(second))
    connectors = (runtime.connect_websocket("ws://localhost") for runtime in RUNTIMES)
    first, second = (public_signatures(type(connector)) for connector in connectors)
    assert first == second


def public_signatures(cls: type) -> dict[str, str]:
    members = inspect.getmembers(cls, callable)
    return {
        name: str(inspect.signature(member))
        for name, member in members
        if not name.startswith("_") or name in ("__init__", "__aenter__", "__aexit__")
    }


@pytest.mark.parametrize(
    "path",
    [path for runtime in RUNTIMES for path in modules(Path(str(runtime.__file__)).parent)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_runtime_knows_no_protocol(path: Path) -> None:
    source = path.read_text()
    assert not re.search(r"\b(1000|1001|1002|1006|1007|1008|1009|1011)\b", source), "a close code"
    assert not re.search(r"\bRFC\b|FrameType|Opcode", source)
    layers = {name.split(".")[1] for name in imports_of(path) if name.startswith("stelar_proto.")}
    allowed = {"errors", "channel", "plain", "server", "client"}
    if path.name == "__main__.py":
        allowed.add("demo")
    assert layers <= allowed


def test_the_asyncio_runtime_does_not_need_trio_and_the_other_way_round() -> None:
    for runtime, foreign in (("asyncio", "trio"), ("trio", "asyncio")):
        for path in modules(ROOT / f"stelar_runtime_{runtime}"):
            assert not any(name.split(".")[0] == foreign for name in imports_of(path))


# --- The text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        path
        for package in ("stelar_proto", "stelar_runtime_asyncio", "stelar_runtime_trio")
        for path in modules(ROOT / package)
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_says_what_it_is_for_and_is_not_too_long(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source))
    assert source.count("\n") <= 400
