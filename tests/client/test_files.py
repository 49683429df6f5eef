"""Files and images: whatever they come from, piece by piece, and within the limits."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stelar_proto.client.files import CHUNK_SIZE
from stelar_proto.errors import ConnectionLost, MessageError
from tests.client.house import SERVERS, House, RawServer
from tests.support.memory import VirtualClient
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
def test_progress_is_told_as_it_leaves_and_others_wait_for_its_end(
    house: House, is_async: bool, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(CONTENT)
    client, server = house.pair()

    def note(done: int, total: int) -> None:
        house.log.append((done, total))
        client.emit("meanwhile", done)

    async def note_later(done: int, total: int) -> None:
        await house.loop.sleep(1)
        note(done, total)

    client.emit("before")
    sending = house.start(client.send_file(path, progress=note_later if is_async else note))
    assert not sending.is_done
    house.loop.advance(5)
    assert sending.result() == len(CONTENT)
    assert house.log == [(CHUNK_SIZE, len(CONTENT)), (len(CONTENT), len(CONTENT))]
    assert server.heard() == [
        ("event", "before", None),
        ("binary", "file", CONTENT),
        ("event", "meanwhile", CHUNK_SIZE),
        ("event", "meanwhile", len(CONTENT)),
    ]
    assert client.get_messages_sent() == 4


@pytest.mark.parametrize("size", [0, 3, CHUNK_SIZE, CHUNK_SIZE + 1, len(CONTENT)])
def test_the_size_is_known_and_told_whatever_it_is(house: House, size: int) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    class OnlyReads:
        read = io.BytesIO(CONTENT[:size]).read

    client, server = house.pair()
    begun = io.BytesIO(b"xyz" + CONTENT[:size])
    begun.seek(3)
    sources: list[Any] = [CONTENT[:size], Pipe(CONTENT[:size]), OnlyReads(), begun]
    for source in sources:
        assert house.loop.run(client.send_file(source, progress=house.note("sent"))) == size
    pieces = [done for done in (CHUNK_SIZE,) if done < size]
    assert house.log == [("sent", done, size) for done in (*pieces, size)] * len(sources)
    assert server.heard() == [("binary", "file", CONTENT[:size])] * len(sources)


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


# --- Large ones, read while they are sent -------------------------------------------------------------------

PIECES = 10
SIZE = PIECES * CHUNK_SIZE


class Counted(io.BytesIO):
    """A large file that counts how much of it was read; a read may do something first."""

    def __init__(self, size: int = SIZE, on_read: Callable[[int], object] = lambda _: None) -> None:
        super().__init__(bytes(size))
        self.reads = 0
        self.on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        self.on_read(self.reads)
        return super().read(size)


@pytest.fixture
def persistent(house: House) -> tuple[VirtualClient, RawServer]:
    return house.pair(reconnection=True)


Pair = tuple[VirtualClient, RawServer]


def reconnect(house: House) -> RawServer:
    house.loop.advance(1)
    return SERVERS[house.wire](house.streams[-1]).open()


def test_no_more_is_read_than_the_server_takes(house: House, persistent: Pair) -> None:
    client, server = persistent
    server.stream.stop_reading()
    file = Counted()
    sending = house.start(client.send_file(file))
    house.loop.advance(10)
    assert file.reads <= 3
    assert repr(client._link._upload) == f"<Upload 0/{SIZE}>"  # type: ignore[union-attr]
    assert not sending.is_done
    server.stream.read_on()
    house.loop.advance(1)
    assert sending.result() == SIZE
    assert server.heard() == [("binary", "file", bytes(SIZE))]


def test_it_is_as_large_as_it_was_when_it_began(house: House, persistent: Pair) -> None:
    client, server = persistent

    def grow(_: int) -> None:
        position = file.tell()
        file.seek(0, 2)
        file.write(b"more")
        file.seek(position)

    file = Counted(SIZE, grow)
    assert house.loop.run(client.send_file(file)) == SIZE
    assert server.heard() == [("binary", "file", bytes(SIZE))]


@pytest.mark.parametrize("fault", ["shorter", "raises", "cancelled", "progress"])
def test_one_that_cannot_be_sent_to_its_end_ends_its_connection_and_no_more(
    house: House, persistent: Pair, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, server = persistent
    client.on("disconnect", house.note("disconnect"))

    def fail(reads: int) -> None:
        if reads == 5:
            client.emit("meanwhile", reads)
            if fault == "shorter":
                file.truncate(4 * CHUNK_SIZE)
            elif fault == "raises":
                raise OSError("the disk is gone")
            elif fault == "cancelled":
                sending.cancel()

    def progress(done: int, total: int) -> None:
        if fault == "progress" and done > total / 2:
            raise RuntimeError("nobody wants to know")

    file = Counted(SIZE, fail)
    sending = house.loop.start(client.send_file(file, progress=progress))
    house.loop.advance(0.5)
    errors = {"cancelled": Cancelled, "progress": RuntimeError}
    with pytest.raises(
        errors.get(fault, OSError), match={"shorter": "bytes of 2621440 are missing"}.get(fault)
    ):
        sending.result()
    assert server.stream.is_cut
    assert house.log == [("disconnect", 1006, "a file could not be sent to its end")]
    assert "a file could not be sent to its end" in caplog.text
    server = reconnect(house)
    assert server.heard() == [("event", "meanwhile", 5)]
    assert client.get_messages_dropped() == 0


def test_one_that_is_cancelled_before_it_began_costs_nothing(house: House, persistent: Pair) -> None:
    client, server = persistent
    server.stream.stop_reading()
    client.emit("before")
    house.loop.run_until_idle()
    sending = house.start(client.send_file(Counted()))
    house.loop.advance(1)
    client.emit("behind")
    draining = house.start(client.drain())
    sending.cancel()
    house.loop.run_until_idle()
    server.stream.read_on()
    assert draining.is_done
    assert server.heard() == [("event", "before", None), ("event", "behind", None)]
    client.emit("later")
    house.loop.run_until_idle()
    assert server.heard() == [("event", "later", None)]


@pytest.mark.parametrize("end", ["reset", "bye", "end"])
def test_a_connection_that_ends_in_the_middle_is_told_and_what_waited_is_sent_later(
    house: House, persistent: Pair, end: str
) -> None:
    client, server = persistent

    def act(reads: int) -> None:
        if reads == 5:
            client.emit("meanwhile")
            house.loop.call_soon(lambda: server.stream.send_soon(server.bye() if end == "bye" else b""))
            if end == "reset":
                house.loop.call_soon(server.stream.cut)

    sending = house.loop.start(client.send_file(Counted(SIZE, act)))
    house.loop.advance(0.5)
    with pytest.raises(ConnectionLost, match=r"ended after \d+ bytes of 2621440"):
        sending.result()
    assert reconnect(house).heard() == [("event", "meanwhile", None)]


def test_a_connection_that_ends_before_it_began_leaves_it_for_the_next(
    house: House, persistent: Pair
) -> None:
    client, server = persistent
    server.stream.stop_reading()
    first = house.start(client.send_file(Counted()))
    second = house.start(client.send_file(Counted(), event="second"))
    house.loop.advance(0.5)
    server.stream.reset()
    house.loop.advance(0.1)
    with pytest.raises(ConnectionLost, match="after 0 bytes"):
        first.result()
    assert second.is_done  # it is kept as every message is
    assert reconnect(house).heard() == [("binary", "second", bytes(SIZE))]


def test_several_follow_one_another_and_requests_wait_for_them(house: House, persistent: Pair) -> None:
    client, server = persistent
    sending = [house.start(client.send_file(Counted(), event=name)) for name in ("a", "b")]
    house.loop.advance(0.003)
    asking = house.start(client.request("sum", 5, timeout=3))
    house.loop.advance(1)
    assert [task.result() for task in sending] == [SIZE, SIZE]
    heard = server.heard()
    assert sorted(entry[1] for entry in heard) == ["a", "b", "sum"]
    assert heard[0][1] == "a"
    assert not asking.is_done


def test_disconnecting_waits_for_the_end_of_a_file(house: House, persistent: Pair) -> None:
    client, server = persistent
    sending = house.start(client.send_file(Counted()))
    house.loop.advance(0.003)
    leaving = house.start(client.disconnect())
    house.loop.advance(1)
    assert sending.result() == SIZE
    heard = server.heard()
    assert heard[0] == ("binary", "file", bytes(SIZE))
    assert heard[1:] == ([("closed", 1000, "")] if house.wire == "ws" else [])
    assert server.stream.has_ended or house.wire == "ws"
    server.stream.end()
    assert leaving.is_done


def test_disconnecting_waits_no_longer_than_it_may(house: House) -> None:
    client, server = house.pair(close_timeout=3)
    sending = house.start(client.send_file(Counted()))
    house.loop.advance(0.003)
    server.stream.stop_reading()
    leaving = house.start(client.disconnect())
    house.loop.advance(2.9)
    assert not leaving.is_done
    house.loop.advance(0.1)
    assert leaving.is_done
    with pytest.raises(ConnectionLost):
        sending.result()


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_server_that_takes_a_file_slowly_is_alive_as_long_as_it_takes_any(
    house: House, reads_on: bool
) -> None:
    client, server = house.pair(heartbeat_interval=10, heartbeat_timeout=20)

    async def progress(done: int, total: int) -> None:
        await house.loop.sleep(8)
        if done > total / 2 and not reads_on:
            server.stream.stop_reading()

    sending = house.start(client.send_file(Counted(), progress=progress))
    house.loop.advance(89)  # 11 reports
    assert client.is_connected() is reads_on
    if reads_on:
        assert sending.result() == SIZE
    else:
        with pytest.raises(ConnectionLost):
            sending.result()


def test_a_hook_that_decides_is_given_all_of_it(house: House) -> None:
    def decide(event: str, data: Any) -> bool:
        house.log.append((event, len(data)))
        return event != "no"

    client, server = house.pair(hooks={"on_before_emit": decide})
    house.loop.run(client.send_file(Counted(), event="no"))
    house.loop.run(client.send_file(Counted(), event="yes"))
    assert house.log == [("no", SIZE), ("yes", SIZE)]
    assert server.heard() == [("binary", "yes", bytes(SIZE))]


def test_the_frame_has_a_limit_too(house: House) -> None:
    client, server = house.pair(max_payload_size=SIZE, max_frame_size=SIZE, outbox_limit=2 * SIZE)
    with pytest.raises(MessageError) as caught:
        house.loop.run(client.send_file(Counted()))
    assert caught.value.code == ("FRAME_TOO_LARGE" if house.wire == "tcp" else "PAYLOAD_TOO_LARGE")
    assert server.heard() == []
    house.loop.run(client.send_file(Counted(SIZE - 100)))
    assert len(server.heard()) == 1


def test_it_need_not_fit_into_the_outbox(house: House) -> None:
    client, server = house.pair(outbox_limit=100_000)
    assert house.loop.run(client.send_file(Counted())) == SIZE
    assert server.heard() == [("binary", "file", bytes(SIZE))]
