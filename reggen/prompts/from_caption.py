"""The prompt of a regularization image from a training caption: without the subject's trigger, with the class tokens.

What is changed, and no more:

- Every trigger, as the guard finds it (whatever its case, spacing, weights, plural or near spelling), is
  replaced by the class tokens or removed, in place. ``<lora:...>`` and ``embedding:...`` with it are removed whole.
- Beside the class tokens the trigger is removed: "a sks dog" becomes "a dog", not "a dog dog".
- Where it is removed and nothing follows that belonged to it, the articles and prepositions before it are removed
  too: "photo of a sks standing" becomes "photo standing", "a sks boy" "a boy". "A" and "an" fit the next word.
- Tags, which are separated by commas outside brackets, come once, however they are spelled, where they came first.
  Empty ones are removed, and so are brackets with nothing in them.
- Spaces and line ends become one space. A text without commas is otherwise left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from reggen.prompts.guard import Guard, Offence
from reggen.prompts.spelling import folded, tokens

_MAX_REPLACED = 50  # triggers: class tokens may form new ones with their neighbours, again and again

_COMMA = re.compile(r"[,\uff0c](?!\d{3}(?!\w))|(?<!\d)[,\uff0c]")  # not the one in 10,000
_SEPARATOR = re.compile(r"\s*(?:\|\|\||;;;)")  # the ones that kohya's documentation recommends
_NAMED = re.compile(r"(?<=[^\s,(\[\\])([ _])\(([^()\[\]:,\\]+)\)")  # after a word, without a weight
_BRACKET = re.compile(r"(?<![\\:;=])[()\[\]]")  # neither escaped nor a face such as :(
_WEIGHT = r":\s*[+-]?[\d.]+\s*(?=[)\]])"
_EMPTY = re.compile(
    rf"(?<![\\:;=])(?:\(\s*(?:{_WEIGHT})?\)|\[\s*\])"  # nothing in brackets
    rf"|(?<=(?<![\\:;=])[(\[])\s*,\s*|\s*,(?=\s*(?:,|[)\]]|{_WEIGHT}))"  # no tag before or after a comma
)
_LOADER = re.compile(r"<[^<>]*>|\bembedding:[^\s,:()\[\]]+", re.IGNORECASE)
_LEFT_OVER = re.compile(rf"{_WEIGHT}|(?<!\\)[()\[\]]")
_OPENED, _CLOSED = re.compile(r"(?<![\\:;=])[(\[]\s*$"), re.compile(rf"\s*(?:{_WEIGHT})?[)\]]")
_POSSESSIVE = re.compile(r"['\u2019]s\b")

_LEADING = re.compile(
    r"(?:\b(?:an?|the|of|by|with|featuring|and|named|called|in|on|at|to|from|for|near|beside|behind|like)\s+)+$",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"\b(an?|the)\s+$", re.IGNORECASE)
_NOT_OF_A_NAME = re.compile(  # words and marks that cannot have belonged to a name before them
    r"\s*(?:$|[.,;:!?)\]|]|(?:\w{2,}ing|is|are|was|were|has|have|in|on|at|with|by|from|who|that)\b)", re.IGNORECASE
)
_AND = re.compile(r"\s*and\s+", re.IGNORECASE)
_AN = re.compile(r"(?!uni|use|usu|eu|one\b|once\b)[aeiou]|hour|honest|heir", re.IGNORECASE)
_STRAY_END = re.compile(r"\s*[.;:!?]+(?=\s*(?:,|$))")


def as_tags(caption: str) -> str:
    """The caption with a comma for kohya's separators ``|||`` and ``;;;``, which are no words to a model."""
    return _SEPARATOR.sub(",", caption)


def prompt_from(
    caption: str,
    trigger: Sequence[str],
    class_tokens: str,
    *,
    replace: bool,
    prefix: str = "",
    suffix: str = "",
) -> str:
    """The caption without its trigger, between the tags of ``prefix`` and ``suffix``; never empty.

    ``replace`` puts the class tokens in the trigger's place. The class tokens also replace a caption that is empty, or
    of which nothing is left. Class tokens that contain a trigger are used for that only. The result is not changed by
    another call. Raises JobError for triggers that can never be found.
    """
    guard = _guard(tuple(trigger))
    clean = "" if guard.find(class_tokens) else class_tokens
    instead = clean if replace else ""
    if (prefix or suffix) and not _without(guard, caption, instead):
        caption = clean
    text = _without(guard, ", ".join((prefix, caption, suffix)), instead)
    return text or ", ".join(_once(_tags(_tidy(class_tokens)))) or class_tokens


def without_phrases(caption: str, phrases: Sequence[str]) -> str:
    """The caption without these tags or phrases, found as triggers are."""
    return _without(_guard(tuple(phrases)), caption, "") if phrases else caption


def escaped(prompt: str) -> str:
    """The prompt with its bare parentheses escaped: ``saber (fate)`` is a name, and ComfyUI would weigh its brackets.

    Parentheses with a weight, ``(smile:1.2)``, around a whole tag, ``((smile))``, and those of a face are meant.
    """
    depths = _depths(prompt)

    def plain(found: re.Match[str]) -> str:
        if depths and depths[found.start()]:
            return found[0]
        return f"{found[1]}\\({found[2]}\\)"

    return _NAMED.sub(plain, prompt)


def _without(guard: Guard, text: str, instead: str) -> str:
    """The text with its triggers replaced or removed, and tidy; empty when nothing is left."""
    before, replaced = "", 0
    while text != before:  # a removed tag may leave brackets that match, or two words together
        before, text = text, _tidy(text)
        while offence := guard.find(text):
            text = _tidy(_cut(text, offence, instead if replaced < _MAX_REPLACED else ""))
            replaced += 1
        text = ", ".join(_once(_tags(text)))
    return text


@lru_cache(maxsize=16)
def _guard(trigger: tuple[str, ...]) -> Guard:
    return Guard(trigger, key="trigger")


def _tidy(text: str) -> str:
    text, before = " ".join(text.split()), ""
    while text != before and _depths(text):
        text, before = _EMPTY.sub("", text), text
    return " ".join(text.split())


def _tags(text: str) -> Iterator[str]:
    """The tags of a text: split at commas outside brackets; brackets that do not match are ordinary characters."""
    depths = _depths(text)
    start = 0
    for comma in _COMMA.finditer(text):
        if not depths or not depths[comma.start()]:
            yield text[start : comma.start()].strip()
            start = comma.end()
    yield text[start:].strip()


def _depths(text: str) -> list[int]:
    """The number of brackets around each character; empty where brackets do not match."""
    depths, depth, at = list[int](), 0, 0
    for bracket in _BRACKET.finditer(text):
        depths += [depth] * (bracket.start() - at)
        at = bracket.start()
        depth += 1 if bracket.group() in "([" else -1
        if depth < 0:
            return []
    return [] if depth else depths + [0] * (len(text) - at)


def _once(tags: Iterable[str]) -> list[str]:
    different: dict[str, str] = {}
    for tag in tags:
        key = " ".join(folded(tag).replace("_", " ").replace("-", " ").split())
        if tag:
            different.setdefault(key or tag, tag)
    return list(different.values())


def _cut(text: str, offence: Offence, instead: str) -> str:
    """The text with one trigger replaced or removed."""
    start, end, whole = _extent(text, offence)
    left, right = text[:start], text[end:]
    kept = "".join(_LEFT_OVER.findall(text[start:end])) if not whole else ""  # weights that hold for neighbours, too
    if whole or not instead:
        left, right, kept = _unwrapped(left, right, kept)
        return _joined(*_closed(left, right, kept), kept)
    article, noun = _with_article(instead)
    if _adjoins(left, right, noun):
        if article and not kept and right.strip() and not _ARTICLE.search(left) and not _adjoins(left, "", noun):
            return left + article + right.lstrip()
        return _joined(left, right, kept)
    if article and _ARTICLE.search(left):
        return _fitted(left, noun) + noun + kept + right
    return _fitted(left, instead) + instead + kept + right


def _with_article(instead: str) -> tuple[str, str]:
    """The article at the start of a text, with its space, and the rest: ``a`` and ``woman`` of "a woman"."""
    found = re.match(r"(?:an?|the)\s+(?=\S)", instead, re.IGNORECASE)
    return (found[0], instead[found.end() :]) if found else ("", instead)


def _extent(text: str, offence: Offence) -> tuple[int, int, bool]:
    """Start and end of what a trigger takes up; True where that is a whole ``<lora:...>`` or ``embedding:...``."""
    for loader in _LOADER.finditer(text):
        if loader.start() < offence.end and offence.start < loader.end():
            return min(loader.start(), offence.start), max(loader.end(), offence.end), True
    escaped = offence.found.count("\\(") - offence.found.count("\\)")
    closes = escaped > 0 and text.startswith("\\)", offence.end)
    return offence.start, offence.end + 2 * closes, False


def _unwrapped(left: str, right: str, kept: str) -> tuple[str, str, str]:
    """Both sides of a removed trigger, without the brackets and weights that held nothing else."""
    while opened := _OPENED.search(left):
        behind = kept or right
        if not (closed := _CLOSED.match(behind)):
            break
        left, behind = left[: opened.start()], behind[closed.end() :]
        kept, right = (behind, right) if kept else ("", behind)
    return left, right, kept


def _closed(left: str, right: str, kept: str) -> tuple[str, str]:
    """Both sides of a removed trigger, without the words that only led to it."""
    if possessive := _POSSESSIVE.match(right):
        right = right[possessive.end() :]
    if right[:1] in ("_", "-"):
        right = right.lstrip("_-")
    else:
        left = left.rstrip("_-") if left[-1:] in ("_", "-") else left
    if kept:
        return left, right
    if both := _AND.match(right):
        return _ARTICLE.sub("", left), right[both.end() :]
    if _NOT_OF_A_NAME.match(right):
        left = _LEADING.sub("", left)
    if not left.rpartition(",")[2].strip():
        right = _STRAY_END.sub("", right, count=1) if _STRAY_END.match(right) else right
    return left, right


def _joined(left: str, right: str, kept: str = "") -> str:
    if kept:
        return left + kept + right
    if re.match(r"\s*[.,;:!?)\]]", right):
        return left.rstrip() + right.lstrip()
    return _fitted(left, right) + (right.lstrip() if left[-1:] in ("", " ", "(", "[") else right)


def _fitted(left: str, following: str) -> str:
    """The left side with the "a" or "an" that the following word needs, where it ends with one of them."""
    found, first = _ARTICLE.search(left), tokens(folded(following))[:1]
    if not found or not first or not first[0][0].isalpha() or found[1].lower() == "the":
        return left
    return f"{left[: found.start()]}{found[1][0]}{'n' if _AN.match(first[0]) else ''}{left[found.end(1) :]}"


def _adjoins(left: str, right: str, class_tokens: str) -> bool:
    """True where the class tokens are already beside the trigger, in the same tag."""
    wanted = tokens(folded(class_tokens))
    before = tokens(folded(_COMMA.split(left)[-1]))
    after = tokens(folded(_COMMA.split(right)[0]))
    return bool(wanted) and (before[-len(wanted) :] == wanted or after[: len(wanted)] == wanted)
