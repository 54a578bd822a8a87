"""Secrets are removed from what a server says, in every form in which it may quote them."""

from __future__ import annotations

import json

from reggen.comfy.redaction import Redactor, secret_forms
from reggen.errors import HttpStatusError, PromptRejected


def test_a_secret_is_known_in_every_form_it_is_quoted_in() -> None:
    """Whole, its words, and as JSON writes it; short words are none."""
    words = secret_forms(['Bearer s3c"ret', "on"])
    assert words[0] == json.dumps('Bearer s3c"ret')[1:-1]
    assert {"Bearer", 's3c"ret', 's3c\\"ret', 'Bearer s3c"ret'} <= set(words)
    assert "on" not in words


def test_an_error_is_redacted_field_by_field() -> None:
    """Also within tuples; the server's name stays, and so does what is no text."""
    redactor = Redactor("token.example", ["token"])
    error = redactor.error(HttpStatusError("token.example", "posting", 401, "token is wrong", 2.0))
    assert error.args == ("token.example", "posting", 401, "*** is wrong", 2.0)
    assert redactor.error(PromptRejected("here", ("no token", "b"))).reasons == ("no ***", "b")


def test_without_secrets_nothing_is_replaced() -> None:
    """The very same error comes back."""
    error = PromptRejected("here", ("no token",))
    assert Redactor("here", []).error(error) is error
