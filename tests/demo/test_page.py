"""The demo's page: one file that needs nothing else, and headers that let it do no more than it does."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from math import prod

from stelar_proto.demo.chat import MAX_NAME_LENGTH, MAX_PICTURE_SIZE, MAX_ROOM_LENGTH, MAX_TEXT_LENGTH
from stelar_proto.demo.page import page_body, page_headers


class _Page(HTMLParser):
    """The elements of the page and what its attributes refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.inline_styles = 0
        self.feed(page_body().decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            elif name == "for" and value:
                self.labelled.add(value)
            elif name in ("src", "href", "action", "srcset") and value:
                self.references.append(value)
            elif name == "style":
                self.inline_styles += 1
            elif name.startswith("on"):
                self.handlers.append(name)


def _policy() -> dict[str, list[str]]:
    directives = dict(page_headers())["Content-Security-Policy"].split("; ")
    return {words[0]: words[1:] for words in (directive.split() for directive in directives)}


def test_the_page_refers_to_nothing_outside_itself() -> None:
    assert all(reference.startswith(("#", "data:")) for reference in _Page().references)
    assert re.search(rb"@import|url\(|import\s*\(|fetch\(|XMLHttpRequest", page_body()) is None


def test_the_page_writes_no_html_from_what_it_was_told() -> None:
    writers = rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|eval\(|new Function|DOMParser"
    assert re.search(writers, page_body()) is None


def test_every_id_stands_once_and_those_that_tests_use_are_there() -> None:
    ids = _Page().ids
    assert len(ids) == len(set(ids))
    assert {"name", "room", "enter", "text", "send", "log", "people", "rooms", "picture", "latency"} <= set(
        ids
    )


def test_the_message_field_has_a_label() -> None:
    assert "text" in _Page().labelled


def test_the_page_allows_what_the_chat_allows() -> None:
    constants = dict(re.findall(r"\b(MAX_\w+) = ([\d* ]+)", page_body().decode()))
    assert prod(int(factor) for factor in constants["MAX_PICTURE_SIZE"].split("*")) == MAX_PICTURE_SIZE
    assert int(constants["MAX_TEXT_LENGTH"]) == MAX_TEXT_LENGTH
    assert f'maxlength="{MAX_NAME_LENGTH}"' in page_body().decode()
    assert f'maxlength="{MAX_ROOM_LENGTH}"' in page_body().decode()


def test_the_policy_names_the_one_style_and_the_one_script_by_their_hashes() -> None:
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [block] = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>".encode(), page_body(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(block).digest()).decode()
        assert _policy()[directive] == [f"'sha256-{digest}'"]


def test_the_page_has_nothing_that_its_policy_would_stop() -> None:
    page = _Page()
    assert page.handlers == []
    assert page.inline_styles == 0


def test_the_policy_lets_the_page_talk_over_websocket_and_show_pictures_only() -> None:
    policy = _policy()
    assert policy["default-src"] == ["'none'"]
    assert policy["connect-src"] == ["'self'", "ws:", "wss:"]
    assert policy["img-src"] == ["blob:", "data:"]
    assert policy["frame-ancestors"] == ["'none'"]


def test_the_page_is_html_in_utf_8_and_is_not_guessed_at() -> None:
    headers = dict(page_headers())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
