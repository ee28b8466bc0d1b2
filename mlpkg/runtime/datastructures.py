"""Multi-valued mappings with the methods of Flask's that entry scripts use: `Headers` and `MultiDict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Union

Pairs = Union[Mapping[str, Any], Iterable[tuple[str, Any]]]  # noqa: UP007 - evaluated, and Python 3.9 has no |


def _pairs(items: Pairs) -> Iterator[tuple[str, Any]]:
    source = items.items() if isinstance(items, Mapping) else items
    for key, value in source:
        if isinstance(value, (list, tuple, set)):
            for one in value:
                yield key, one
        else:
            yield key, value


class MultiDict(MutableMapping[str, Any]):
    """Keys with one or several values; plain access gives the first."""

    def __init__(self, items: Pairs = ()) -> None:
        self._lists: dict[str, list[Any]] = {}
        for key, value in _pairs(items):
            self._lists.setdefault(key, []).append(value)

    def __getitem__(self, key: str) -> Any:
        values = self._lists.get(key)
        if not values:
            raise KeyError(key)
        return values[0]

    def __setitem__(self, key: str, value: Any) -> None:
        self._lists[key] = [value]

    def __delitem__(self, key: str) -> None:
        del self._lists[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.items(multi=True))!r})"

    def get(self, key: str, default: Any = None, type: Callable[[Any], Any] | None = None) -> Any:  # noqa: A002
        """The first value, converted by `type`; the default where it is absent or does not convert."""
        try:
            value = self[key]
            return value if type is None else type(value)
        except (KeyError, ValueError):
            return default

    def getlist(self, key: str, type: Callable[[Any], Any] | None = None) -> list[Any]:  # noqa: A002
        """All values; those that `type` does not convert are left out."""
        values = self._lists.get(key, [])
        if type is None:
            return list(values)
        converted = []
        for value in values:
            try:
                converted.append(type(value))
            except ValueError:
                continue
        return converted

    def add(self, key: str, value: Any) -> None:
        """Add one more value."""
        self._lists.setdefault(key, []).append(value)

    def items(self, multi: bool = False) -> Any:  # noqa: FBT001, FBT002 - Flask's signature
        """Pairs of key and first value, or of key and every value."""
        if multi:
            return [(key, value) for key, values in self._lists.items() for value in values]
        return [(key, values[0]) for key, values in self._lists.items() if values]

    def lists(self) -> list[tuple[str, list[Any]]]:
        """Pairs of key and list of values."""
        return [(key, list(values)) for key, values in self._lists.items()]

    def to_dict(self, flat: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - Flask's signature
        """A plain dict of first values, or of lists."""
        return dict(self.items()) if flat else dict(self.lists())


class Headers(MutableMapping[str, str]):
    """Header fields in order; names compare without case."""

    def __init__(self, items: Pairs | None = None) -> None:
        self._items: list[tuple[str, str]] = []
        for key, value in _pairs(items or ()):
            self.add(key, value)

    def __getitem__(self, key: str) -> str:
        wanted = key.lower()
        for name, value in self._items:
            if name.lower() == wanted:
                return value
        raise KeyError(key)

    def __setitem__(self, key: str, value: object) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        wanted = key.lower()
        self._items = [item for item in self._items if item[0].lower() != wanted]

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._items])

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and any(name.lower() == key.lower() for name, _ in self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def get(self, key: str, default: Any = None, type: Callable[[Any], Any] | None = None) -> Any:  # noqa: A002
        """The first value, converted by `type`; the default where it is absent or does not convert."""
        try:
            value = self[key]
            return value if type is None else type(value)
        except (KeyError, ValueError):
            return default

    def getlist(self, key: str) -> list[str]:
        """All values of one name."""
        return [value for name, value in self._items if name.lower() == key.lower()]

    get_all = getlist

    def add(self, key: str, value: object, **options: object) -> None:
        """Add a field; options become parameters (``filename="x"``). Raises ValueError for a line break."""
        text = str(value)
        for option, setting in options.items():
            text += f"; {option.replace('_', '-')}" + ("" if setting is None else f'="{setting}"')
        if any(mark in key + text for mark in "\r\n"):
            raise ValueError("Header values must not contain newline characters.")
        self._items.append((key, text))

    add_header = add

    def set(self, key: str, value: object) -> None:
        """Replace all fields of one name; the new one stands where the first was."""
        text = str(value)
        if any(mark in key + text for mark in "\r\n"):
            raise ValueError("Header values must not contain newline characters.")
        wanted = key.lower()
        for index, (name, _) in enumerate(self._items):
            if name.lower() == wanted:
                rest = [item for item in self._items[index + 1 :] if item[0].lower() != wanted]
                self._items[index:] = [(key, text), *rest]
                return
        self._items.append((key, text))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value, after adding the default where there was none."""
        if key not in self:
            self.add(key, default)
        return self[key]

    def remove(self, key: str) -> None:
        """Remove all fields of one name."""
        del self[key]

    def extend(self, items: Pairs) -> None:
        """Add fields."""
        for key, value in _pairs(items):
            self.add(key, value)

    def items(self, lower: bool = False) -> Any:  # noqa: FBT001, FBT002 - Flask's signature
        """All pairs of name and value, in order."""
        return [(name.lower(), value) for name, value in self._items] if lower else list(self._items)

    def to_wsgi_list(self) -> list[tuple[str, str]]:
        """All pairs of name and value, in order."""
        return list(self._items)
