"""Options that may change while what they configure is running: which of them, and to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, replace
from typing import Any, ClassVar, Self, TypeVar

from stelar_proto.channel.config import did_you_mean

T = TypeVar("T")


def fixed(default: T, instead: str = "it takes a new server") -> T:
    """The default of an option that stays as it is; all others may change.

    ::

        port: int = fixed(3000)
        max_rooms: int = 10_000

    Arguments:
        default: its value if it is not given.
        instead: what to do for a change.
    """
    field_: T = field(default=default, metadata={"instead": instead})
    return field_


class Options:
    """The base of a frozen dataclass that checks its values, all of them at once."""

    __slots__ = ()

    _instead: ClassVar[Mapping[str, str]] = {}
    """What to do for a change of options that are kept elsewhere, by their names."""

    def _replaced(self, changes: dict[str, Any]) -> Self:
        """Return a copy with ``changes``, which are known to be possible, if they make sense."""
        return replace(self, **changes)  # type: ignore[type-var]  # those derived from it are dataclasses

    @classmethod
    def _fields(cls) -> dict[str, Field[Any]]:
        return {option.name: option for option in fields(cls) if option.init}  # type: ignore[arg-type]

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return these options with ``changes``.

        Raises:
            ValueError: an option does not exist, cannot change, or would make no sense; the message names all
                of them.
        """
        options, problems, possible = self._fields(), [], {}
        for name, value in changes.items():
            option = options.get(name)
            instead = self._instead.get(name) if option is None else option.metadata.get("instead")
            if instead is not None:
                problems.append(f"{name} cannot change here: {instead}")
            elif option is None:
                problems.append(f"there is no option {name!r}{did_you_mean(name, options)}")
            else:
                possible[name] = value
        try:
            result = self._replaced(possible)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return result

    def is_custom(self, name: str) -> bool:
        """Tell whether option ``name`` has another value than its default.

        Raises:
            ValueError: there is no such option.
        """
        option = self._fields().get(name)
        if option is None:
            raise ValueError(f"there is no option {name!r}{did_you_mean(name, self._fields())}")
        default = option.default if option.default_factory is MISSING else option.default_factory()
        value = getattr(self, name)
        return value is not default and bool(value != default)

    @property
    def custom(self) -> frozenset[str]:
        """The names of the options that have another value than their default."""
        return frozenset(name for name in self._fields() if self.is_custom(name))
