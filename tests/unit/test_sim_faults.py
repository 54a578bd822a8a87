"""Fault scripts: what they accept, and when their faults strike."""

from __future__ import annotations

import gzip
import random
from typing import Any

import pytest

from reggen.sim.faults.hostile import flood
from reggen.sim.faults.script import ANYWHERE, Director, Fault, Script, ScriptError
from reggen.sim.faults.spoil import mishap_of, replacement, stream_of
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.machine import _ACTIONS


def strikes(fault: Fault, happenings: int, stream: str, event: str = "", seed: int = 0) -> list[int]:
    """At which of so many happenings a fault strikes, counted from 1."""
    director = Director(Script((fault,), seed), began=0.0)
    return [number for number in range(1, happenings + 1) if director.due(stream, event)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("status", "post", nth=2), [2]),
        (Fault("status", "post", nth=(1, 4)), [1, 4]),
        (Fault("status", "post", every=3), [3, 6]),
        (Fault("status", "post", times=2), [1, 2]),
        (Fault("status", "post", every=2, times=1), [2]),
        (Fault("status", "post"), [1, 2, 3, 4, 5, 6]),
        (Fault("status", "view"), []),
    ],
)
def test_counting(fault: Fault, expected: list[int]):
    """A fault counts the happenings on its own stream, from 1."""
    assert strikes(fault, 6, "post") == expected


def test_every_fault_that_can_happen_anywhere_has_an_action():
    """A server can carry out each of them, and no others."""
    assert set(_ACTIONS) == set(ANYWHERE)


def test_chance_is_decided_by_the_seed():
    """The same seed gives the same accidents, and about as many as the chance says."""
    fault = Fault("lose", chance=0.25)
    first = strikes(fault, 400, "event", seed=7)
    assert first == strikes(fault, 400, "event", seed=7)
    assert first != strikes(fault, 400, "event", seed=8)
    assert 60 < len(first) < 140


def test_event_faults_count_frames_of_their_type():
    """A fault for one type of frame does not count the others."""
    director = Director(Script((Fault("lose", event="executed", nth=2),)), began=0.0)
    frames = ["status", "executed", "status", "executed", "executed"]
    assert [bool(director.due("event", frame)) for frame in frames] == [False, False, False, True, False]


def test_timed_faults_strike_once_or_again_and_again():
    """`at` strikes once; `every` comes back; both count from when the script began."""
    faults = (Fault("drop", at=5.0), Fault("restart", "time", every=2.0, times=2))
    director = Director(Script(faults), began=100.0)
    struck = []
    while (moment := director.next_time()) is not None:
        struck += [(moment, fault.do) for fault in director.due_by(moment)]
    assert struck == [(102.0, "restart"), (104.0, "restart"), (105.0, "drop")]


def test_late_faults_count_from_their_arming():
    """A fault that is added counts what happens afterwards."""
    director = Director(Script(), began=0.0)
    director.due("post")
    director.add(Fault("reject", nth=1), now=9.0)
    assert [fault.do for fault in director.due("post")] == ["reject"]


def test_script_out_of_toml_and_json():
    """The same script can be written in both."""
    toml = 'seed = 3\n[[fault]]\ndo = "status"\non = "post"\nnth = [1, 2]\nstatus = 502\n'
    json = '{"seed": 3, "fault": [{"do": "status", "on": "post", "nth": [1, 2], "status": 502}]}'
    assert Script.from_toml(toml) == Script.from_json(json)
    assert Script.from_toml(toml).faults == (Fault("status", "post", nth=(1, 2), status=502),)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"faults": []}, "a script holds seed and fault, not faults"),
        ({"fault": {}}, "seed must be a whole number and fault a list of tables"),
        ({"fault": [{}]}, "fault 1: a fault is a table that says at least what to do"),
        ({"fault": [{"do": "explode"}]}, "fault 1: a fault cannot do 'explode'"),
        ({"fault": [{"do": "drop", "at": 1}, {"do": "cut", "on": "post"}]}, "fault 2: cut cannot happen on 'post'"),
        ({"fault": [{"do": "drop", "on": "post", "nht": 1}]}, "fault 1: there is no 'nht'"),
        ({"fault": [{"do": "drop", "on": "post", "nth": "two"}]}, "fault 1: nth = 'two' should be int"),
        ({"fault": [{"do": "drop", "on": "post", "nth": True}]}, "fault 1: nth = True should be int"),
        ({"fault": [{"do": "drop", "on": "post", "nth": 0}]}, "nth counts from 1"),
        ({"fault": [{"do": "drop", "on": "post", "nth": 1, "every": 2}]}, "give one of nth, every and chance"),
        ({"fault": [{"do": "drop", "on": "time"}]}, "drop on time needs at or every"),
        ({"fault": [{"do": "drop", "on": "post", "at": 3}]}, "at (seconds) goes with on = 'time' only"),
        ({"fault": [{"do": "drop", "on": "post", "chance": 2.0}]}, "chance lies between 0 and 1"),
        ({"fault": [{"do": "drop", "on": "post", "event": "status"}]}, "event goes with on = 'event' only"),
        ({"fault": [{"do": "deafen", "on": "post", "seconds": 2.0}]}, "deafen takes no 'seconds'"),
        ({"fault": [{"do": "zombie", "face": "sad"}]}, "a zombie's face is running or idle"),
    ],
)
def test_nonsense_is_refused_with_its_place(data: dict[str, Any], complaint: str):
    """A script that makes no sense says which fault is wrong, and how."""
    with pytest.raises(ScriptError) as caught:
        Script.parse(data)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["[[fault]", "= 3"])
def test_text_that_is_no_toml_is_refused(text: str):
    """A broken file is a script error too."""
    with pytest.raises(ScriptError, match="not TOML"):
        Script.from_toml(text)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_text_that_is_no_script_in_json_is_refused(text: str):
    """Neither is broken JSON a script, nor a list."""
    with pytest.raises(ScriptError):
        Script.from_json(text)


def test_streams_of_requests():
    """Requests are counted by what they are for."""
    asked = [
        ("POST", "/prompt"),
        ("GET", "/prompt"),
        ("GET", "/view"),
        ("GET", "/history/x"),
        ("GET", "/jobs"),
        ("POST", "/queue"),
        ("GET", "/system_stats"),
    ]
    streams = [stream_of(HttpRequest(method, path)) for method, path in asked]
    assert streams == ["post", "queue", "view", "history", "queue", "other", "other"]


def test_replacements_keep_to_the_fault():
    """A status comes with its Retry-After; HTML looks like success; a rejection is a 400."""
    right = HttpReply(200, b"{}", "application/json", prompt_id="p")
    busy = replacement(Fault("status", "post", status=429, retry_after=7), right)
    assert (busy.status, busy.headers, busy.prompt_id) == (429, {"Retry-After": "7"}, "p")
    html = replacement(Fault("html", "post"), right)
    assert (html.status, html.content_type) == (200, "text/html")
    assert replacement(Fault("reject", message="no"), right).status == 400
    assert replacement(Fault("slow", "post"), right) is right


def test_a_redirect_takes_the_request_along():
    """Path and query stand behind the address it leads to."""
    away = replacement(Fault("redirect", "view", to="http://a/b"), HttpReply(200), "/view?filename=c.png")
    assert (away.status, away.headers["Location"]) == (302, "http://a/b/view?filename=c.png")
    assert replacement(Fault("redirect", "ws", to="http://a", status=308), HttpReply(503), "/ws").status == 308
    with pytest.raises(ScriptError, match="to which address"):
        Fault("redirect", "ws")


def test_an_odd_answer_is_chosen_by_name():
    """Each is what its name says, with success."""
    assert (
        replacement(Fault("odd", "queue", body="lists"), HttpReply(200)).body
        == b'{"queue_running": 5, "queue_pending": {}}'
    )
    with pytest.raises(ScriptError, match="no odd body 'even', only surrogate, infinity"):
        Fault("odd", "post", body="even")


def test_a_flood_is_an_answer_that_goes_on():
    """So long, packed or not."""
    plain = b"".join(flood(2, packed=False))
    assert 2 << 20 < len(plain) < (2 << 20) + 200
    assert gzip.decompress(b"".join(flood(2, packed=True))) == plain


def test_first_mishap_decides():
    """Of several faults at a start the first that befalls the execution counts."""
    faults = [Fault("vanish"), Fault("oom"), Fault("black")]
    mishap = mishap_of(faults)
    assert mishap is not None
    assert mishap.exception_type == "torch.OutOfMemoryError"
    assert mishap_of([Fault("vanish")]) is None


def test_unknown_faults_never_strike_by_accident():
    """Whatever happens on other streams, a fault stays quiet."""
    rng = random.Random(1)
    director = Director(Script((Fault("cut", nth=1),)), began=0.0)
    assert not any(director.due(rng.choice(["post", "history", "start", "ws"])) for _ in range(50))
