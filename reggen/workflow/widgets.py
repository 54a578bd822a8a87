"""Give the values of a node's widgets their names, as the page does from ``/object_info``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

_CONTROLS = ("fixed", "increment", "decrement", "randomize")
SIMPLE = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
"""The types of inputs that are widgets with one value."""
_DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload", "file_upload")


class WidgetError(Exception):
    """The values do not fit the class. The text says which, and how."""


class _Widget(NamedTuple):
    name: str
    kind: Any  # a type's name, or the list of choices
    options: Mapping[str, Any]


def values_of(spec: Mapping[str, Any], values: Any) -> dict[str, Any]:
    """The widgets of a node class with their values, by name. Raises WidgetError.

    ``spec`` is the class in /object_info, ``values`` the node's ``widgets_values``: a list in the order of the
    widgets, or a table by name. Widgets at the end that an older page did not have take their defaults, as on the page.
    """
    if isinstance(values, Mapping):
        return {one.name: _fitting(one, values[one.name]) for one in _widgets(spec) if one.name in values}
    given = _Given(list(values) if isinstance(values, list) else [])
    found = dict(_taken(_widgets(spec), given))
    given.demand_empty()
    return found


def demand_fits(spec: Mapping[str, Any], name: str, value: Any) -> Any:
    """The value as the widget of that name takes it; as it is where there is none. Raises WidgetError."""
    return next((_fitting(one, value) for one in _widgets(spec) if one.name == name), value)


class _Given:
    """The values that are left of a node's list."""

    def __init__(self, values: list[Any]) -> None:
        self._values, self._next = values, 0

    def __bool__(self) -> bool:
        return self._next < len(self._values)

    def take(self) -> Any:
        self._next += 1
        return self._values[self._next - 1]

    def skip_control(self, following: _Widget | None) -> None:
        """Leave out what the page keeps after a seed: what to do with it after a run; in 2023 a truth value."""
        if not self:
            return
        is_flag = isinstance(value := self._values[self._next], bool)
        if is_flag and following and following.kind == "BOOLEAN":
            raise WidgetError(f"{value} may be the value of {following.name} or what the page does with the seed")
        if is_flag or value in _CONTROLS:
            self._next += 1

    def skip_upload(self) -> None:
        """Leave out the label of an upload button."""
        if not self:
            return
        value = self._values[self._next]
        is_button = isinstance(value, Mapping) and value.get("name") == "upload"
        if is_button or value in ("image", "video", "audio", "file", None, ""):
            self._next += 1

    def demand_empty(self) -> None:
        """A class without widgets only shows its values; in any other a value too many may be a shift."""
        left = [value for value in self._values[self._next :] if value is not None and value != ""]
        if left and self._next:
            shown = f"{_shown(left[0])} belongs to none"
            raise WidgetError(f"it has {len(self._values)} values, and its class takes {self._next}: {shown}")


def _widgets(spec: Mapping[str, Any]) -> Iterator[_Widget]:
    """The inputs of a class that are widgets on the page, in its order."""
    inputs = spec.get("input") or {}
    order = spec.get("input_order") or {}
    for part in ("required", "optional"):
        described = inputs.get(part) or {}
        names = order.get(part) or list(described)
        yield from _widgets_of({name: described[name] for name in names if name in described})


def _widgets_of(described: Mapping[str, Any], prefix: str = "") -> Iterator[_Widget]:
    for name, given in described.items():
        if not isinstance(given, list | tuple) or not given:
            continue
        options = given[1] if len(given) > 1 and isinstance(given[1], Mapping) else {}
        kind = given[0]
        is_widget = isinstance(kind, list | tuple) or kind in SIMPLE or kind == _DYNAMIC
        if is_widget and not options.get("forceInput") and not options.get("rawLink"):
            yield _Widget(prefix + name, kind, options)


def _taken(widgets: Iterator[_Widget], given: _Given) -> Iterator[tuple[str, Any]]:
    ordered = list(widgets)
    for one, following in zip_longest(ordered, ordered[1:]):
        if not given:
            if "default" in one.options or one.kind == "BOOLEAN":
                yield one.name, one.options.get("default", False)
                continue
            if (first := _first_choice(one)) is not None:
                yield one.name, first
                continue
            raise WidgetError(f"it has no value for {one.name}")
        value = _fitting(one, given.take())
        yield one.name, value
        if one.kind == _DYNAMIC:
            yield from _taken(_chosen(one, value), given)
        if _is_controlled(one):
            given.skip_control(following)
        if any(one.options.get(upload) for upload in _UPLOADS):
            given.skip_upload()


def _chosen(widget: _Widget, value: Any) -> Iterator[_Widget]:
    """The widgets that a choice brings with it: ``format.bit_depth``."""
    for option in widget.options.get("options") or ():
        if option.get("key") == value:
            inputs = option.get("inputs") or {}
            for part in ("required", "optional"):
                yield from _widgets_of(inputs.get(part) or {}, f"{widget.name}.")


def _is_controlled(widget: _Widget) -> bool:
    named = widget.kind == "INT" and widget.name.rpartition(".")[2] in {"seed", "noise_seed"}
    return bool(widget.options.get("control_after_generate", named))


def _choices(widget: _Widget) -> list[Any] | None:
    """The values of a list; None where the widget is none."""
    if isinstance(widget.kind, list | tuple):
        return list(widget.kind)
    options = widget.options.get("options")
    if widget.kind == _DYNAMIC:
        return [option.get("key") for option in options or ()]
    return list(options or ()) if widget.kind == "COMBO" else None


def _first_choice(widget: _Widget) -> Any:
    choices = _choices(widget)
    return choices[0] if choices else None


def _fitting(widget: _Widget, value: Any) -> Any:
    """The value, when it is of the widget's type; a list that was shifted by one shows here."""
    choices = _choices(widget)
    if choices is not None:
        if value in choices and not isinstance(value, bool):
            return value
        if isinstance(value, bool) and any(value is choice for choice in choices):
            return value
        if isinstance(value, str) and (not choices or _names_files(choices, value)):
            return value  # a file that this server lacks, which the preflight tells
        raise WidgetError(f"{widget.name} has the value {_shown(value)}, which is none of its choices")
    fits = {
        "INT": isinstance(value, int) and not isinstance(value, bool),
        "FLOAT": isinstance(value, int | float) and not isinstance(value, bool),
        "BOOLEAN": isinstance(value, bool),
        "STRING": isinstance(value, str),
        "COLOR": isinstance(value, str),
    }[widget.kind]
    if widget.kind == "INT" and isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if not fits:
        raise WidgetError(f"{widget.name} has the value {_shown(value)}, which is no {widget.kind}")
    if widget.kind in {"INT", "FLOAT"} and not _within(widget.options, value):
        raise WidgetError(f"{widget.name} has the value {_shown(value)}, which is outside of its limits")
    return value


def _within(options: Mapping[str, Any], value: float) -> bool:
    low, high = options.get("min"), options.get("max")
    return not (isinstance(low, int | float) and value < low) and not (isinstance(high, int | float) and value > high)


def _names_files(choices: list[Any], value: str) -> bool:
    """If a list holds the names of files, or names one itself: what lies in a server's folders differs."""
    return any(isinstance(one, str) and "." in one for one in (*choices[:50], value))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
