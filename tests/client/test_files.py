"""Files and images: whatever they come from, piece by piece, and within the limits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from stelar_proto.client.files import CHUNK_SIZE
from stelar_proto.errors import MessageError
from tests.client.house import House
from tests.support.virtual import Cancelled

CONTENT = bytes(range(256)) * (CHUNK_SIZE // 256) + b"the rest"


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "bytearray", "memoryview", "file"])
def test_a_file_is_one_event_whatever_it_comes_from(house: House, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG")
    source: Any = {
        "path": path,
        "str": str(path),
        "bytes": b"\x89PNG",
        "bytearray": bytearray(b"\x89PNG"),
        "memoryview": memoryview(b"\x89PNG"),
        "file": io.BytesIO(b"\x89PNG"),
    }[kind]
    client, server = house.pair()
    assert house.loop.run(client.send_file(source, event="upload")) == 4
    if kind == "file":
        source.seek(0)
    assert house.loop.run(client.send_image(source)) == 4
    assert server.heard() == [("binary", "upload", b"\x89PNG"), ("binary", "image", b"\x89PNG")]


@pytest.mark.parametrize("is_async", [False, True])
def test_progress_is_told_while_it_is_read_and_others_go_on(
    house: House, is_async: bool, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(CONTENT)
    client, server = house.pair()

    def note(done: int, total: int | None) -> None:
        house.log.append((done, total))
        client.emit("meanwhile", done)

    async def note_later(done: int, total: int | None) -> None:
        await house.loop.sleep(1)
        note(done, total)

    sending = house.start(client.send_file(path, progress=note_later if is_async else note))
    assert not sending.is_done
    house.loop.advance(5)
    assert sending.result() == len(CONTENT)
    assert house.log == [(CHUNK_SIZE, len(CONTENT)), (len(CONTENT), len(CONTENT))]
    assert CONTENT[-1000:] in server.stream.take() or house.wire == "ws"  # where it is masked


def test_the_size_of_an_open_file_is_not_known(house: House) -> None:
    client, _ = house.pair()
    house.loop.run(client.send_file(io.BytesIO(b"abc"), progress=house.note("read")))
    house.loop.run(client.send_file(b"abc", progress=house.note("read")))
    assert house.log == [("read", 3, None), ("read", 3, 3)]


def test_a_file_over_the_limit_is_not_read(house: House, tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        reads = 0

        def read(self, size: int = -1, /) -> bytes:
            self.reads += 1
            return bytes(size)

    path = tmp_path / "big"
    path.write_bytes(bytes(2000))
    client, server = house.pair(max_payload_size=1000)
    endless = Endless()
    for source in (path, bytes(2000), endless):
        with pytest.raises(MessageError, match=r"over max_payload_size \(1000\)") as caught:
            house.loop.run(client.send_file(source))
        assert caught.value.code == "PAYLOAD_TOO_LARGE"
    assert endless.reads == 1
    assert server.heard() == []


def test_what_is_no_file_is_refused_with_words(house: House, tmp_path: Path) -> None:
    client, _ = house.pair()
    with pytest.raises(FileNotFoundError):
        house.loop.run(client.send_file(tmp_path / "nothing"))
    with pytest.raises(TypeError, match="open it for reading bytes"):
        house.loop.run(client.send_file(io.StringIO("text")))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        house.loop.run(client.send_file(5))  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        house.loop.run(client.send_file(b"", event="a b"))


def test_a_file_waits_for_a_connection_as_every_message_does(house: House, tmp_path: Path) -> None:
    client = house.client()
    house.loop.run(client.send_file(b"abc"))
    assert client.get_queue_size() == 1
    assert house.connect(client).heard() == [("binary", "file", b"abc")]


def test_a_file_waits_for_a_server_that_does_not_read(house: House) -> None:
    client, server = house.pair()
    server.stream.stop_reading()
    client.emit_binary("x", bytes(100_000))
    sending = house.start(client.send_file(bytes(200_000)))
    assert not sending.is_done
    assert client.get_messages_sent() == 1
    server.stream.read_on()
    assert sending.is_done


@pytest.mark.parametrize("after", range(4))
def test_a_file_is_closed_whenever_the_sending_is_cancelled(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path = tmp_path / "big"
    path.write_bytes(CONTENT)
    opened: list[Any] = []
    really_open = Path.open

    def note_and_open(path: Path, mode: str) -> Any:
        opened.append(really_open(path, mode))
        return opened[-1]

    monkeypatch.setattr(Path, "open", note_and_open)
    client, _ = house.pair()
    sending = house.start(client.send_file(path))
    house.loop.advance(0.001 * after + 0.0005)
    assert len(opened) == (after > 0)
    sending.cancel()
    house.loop.run_until_idle()
    assert isinstance(sending.error, Cancelled)
    assert all(file.closed for file in opened)
