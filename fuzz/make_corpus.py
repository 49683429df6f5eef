"""Writes ``corpus/``, the inputs that the targets start from, out of recorded traffic.

Run as ``python fuzz/make_corpus.py`` after a change of tests/vectors/; what it writes is committed, and other
files that stand there are left alone. One folder per kind of input, one file per frame, head or stream, named
after where it comes from:

- ``http_request``, ``http_response``: the two heads of a WebSocket handshake;
- ``ws_server``, ``ws_client``: what a WebSocket server and a client receive behind it;
- ``tcp_npm``: what TCP peers of the npm package say and hear, broken frames included;
- ``tcp_documented``: the well-formed ones of these with the type codes of the documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "tests" / "vectors"
CORPUS = ROOT / "fuzz" / "corpus"

RECEIVER = {"client": "server", "server": "client"}


def websocket_entries() -> Iterator[tuple[str, bytes]]:
    """Each side's head, and each chunk behind it, under the role that receives it."""
    for sender, receiver in RECEIVER.items():
        head, *chunks = recorded("ws", sender)
        yield ("http_request/npm" if sender == "client" else "http_response/npm"), head
        for number, chunk in enumerate(chunks):
            yield f"ws_{receiver}/transcript-{number:02}", chunk


def tcp_entries() -> Iterator[tuple[str, bytes]]:
    vectors = json.loads((VECTORS / "tcp_npm_3_2_0.json").read_text())
    well_formed = {f"transcript-{sender}": b"".join(recorded("tcp", sender)) for sender in RECEIVER}
    for number, vector in enumerate(vectors["encode"]):
        if "hex" in vector:
            well_formed[f"encode-{vector['kind']}-{number:02}"] = bytes.fromhex(vector["hex"])
    for name, stream in well_formed.items():
        yield f"tcp_npm/{name}", stream
        yield f"tcp_documented/{name}", documented(stream)
    for vector in vectors["decode"]:
        name = re.sub(r"\W+", "-", vector["name"])
        yield f"tcp_npm/decode-{name}", bytes.fromhex(vector["hex"])


def recorded(wire: str, sender: str) -> list[bytes]:
    """The chunks that one side of the recorded conversation sent."""
    transcript = json.loads((VECTORS / "transcript_npm_3_2_0.json").read_text())
    [chunks] = [
        connection["chunks"] for connection in transcript["connections"] if connection["wire"] == wire
    ]
    return [bytes.fromhex(data) for side, data in chunks if side == sender and data != "EOF"]


def documented(stream: bytes) -> bytes:
    """Frames of the npm dialect, which counts the types from 1, in the dialect that counts them from 0."""
    recoded = bytearray(stream)
    position = 0
    while position < len(recoded):
        recoded[position + 4] -= 1
        position += int.from_bytes(recoded[position : position + 4], "big")
    return bytes(recoded)


def main() -> None:
    written: set[tuple[str, bytes]] = set()
    for name, data in [*websocket_entries(), *tcp_entries()]:
        path = CORPUS / f"{name}.bin"
        if (path.parent.name, data) not in written:  # the recording says some things twice
            written.add((path.parent.name, data))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
