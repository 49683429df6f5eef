"""The hooks of a client: functions of the application's own that are told what goes on, or asked first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stelar_proto.channel.handlers import Handler

HOOKS = {
    "on_before_emit": "event, data",
    "on_message": "event, data, is_binary",
    "on_state_change": "state, previous",
    "on_reconnect_delay": "attempt, delay",
    "on_message_queued": "event, queue_size",
    "on_queue_drained": "count",
    "on_error": "error",
}
"""Every hook, with the keyword arguments that it gets."""

Hooks = Mapping[str, Handler]


def hook_problems(hooks: Any) -> Iterator[str]:
    """Say what is wrong with the option, if anything is."""
    if not isinstance(hooks, Mapping):
        yield f"hooks must be a mapping from names to functions, not {hooks!r}"
        return
    for name, hook in hooks.items():
        if name not in HOOKS:
            yield f"there is no hook {name!r}; there are {', '.join(HOOKS)}"
        elif not callable(hook):
            yield f"the hook {name} must be a function, not {hook!r}"
