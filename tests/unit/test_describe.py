"""An answer that is not what was asked for is said in a few words."""

from __future__ import annotations

import pytest

from reggen.comfy.describe import is_page, summary

NGINX = "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body><h1>401</h1>\r\n"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (NGINX, "text/html", 'a web page ("401 Authorization Required")'),
        ("<!-- x -->\n<!DOCTYPE HTML><TITLE>\n Sign &amp; go\n</TITLE>", "text/plain", 'a web page ("Sign & go")'),
        ("<body><h1>Please <b>log</b> in</h1></body>", "text/html", 'a web page ("Please log in")'),
        ("<html><title> </title><script>var a = 1</script></html>", "text/html", "a web page without a title"),
        ("It is a login page.", "text/html", "a web page without a title"),
        ("401: Unauthorized\n\n", "text/plain", "401: Unauthorized"),
        ("<input> is missing", "text/plain", "<input> is missing"),
        ("x" * 300, "text/plain", "x" * 199 + "…"),
        (" " * 30_000 + "y", "text/plain", "…"),
        (" \r\n", "text/html", ""),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_page_is_its_title_and_a_text_its_beginning(text: str, kind: str, said: str) -> None:
    """No markup, no line breaks, and no more than a line of it."""
    assert summary(text, kind) == said


def test_json_and_plain_words_are_no_page() -> None:
    """Whatever stands in them."""
    assert not any(is_page(text) for text in ('{"a": "<html>"}', "see <html>", "", "[1]"))
