"""What a vendor, a proxy or an attacker might send."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Bodies nobody can read, whatever the vendor: with these the status alone must decide.
UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "garbage": bytes(range(256)) * 16,
    "cut off": b'{"sid":"SM1","name":"x","Code":"O',
    "utf-16": '{"Code":"OK","CallId":"1","sid":"SM1","name":"x"}'.encode("utf-16"),
    "latin-1": '{"sid":"é","name":"é","Code":"é"}'.encode("latin-1"),
    "null": b"null",
    "number": b"1e400",
    "string": b'"OK"',
    "list": b"[]",
    "empty object": b"{}",
    "huge": b'{"message":"' + b"x" * 3_000_000 + b'"}',
    "huge number": b'{"code":' + b"9" * 100_000 + b"}",
    "deep list": b"[" * 200_000 + b"]" * 200_000,
    "deep object": b'{"error":' * 100_000 + b"1" + b"}" * 100_000,
    "deep beside the answer": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "wrong types": json.dumps(
        {name: [{}] for name in ("sid", "name", "error", "Code", "CallId", "BizId", "code")}
    ).encode(),
}

HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "retry-after", "x-acs-retry-after", "x-twilio-signature", "x-other"])
    | st.text(max_size=20),
    st.text(max_size=40)
    | st.sampled_from(
        [
            "application/json", "application/x-www-form-urlencoded", "0", "-1", "1.5", "1e9", "nan", "9" * 400, "٣",
            "application/x-www-form-urlencoded; charset=utf-16",
        ]
    ),
    max_size=4,
)  # fmt: skip

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
_KEYS = st.text(max_size=10) | st.sampled_from(
    [
        "sid", "code", "status", "name", "error", "details", "errorCode", "fieldViolations", "field", "Code", "CallId",
        "BizId", "call_id", "out_id", "status_code", "end_time", "status_time", "dtmf", "access_token", "expires_in",
        "message", "phone_number", "success", "err_code", "biz_id", "report_time", "content", "sequence_id",
        "dest_code", "To", "Status", "MessageId", "ReceiveDate",
    ]
)  # fmt: skip
JSON = st.recursive(
    _SCALARS
    | st.sampled_from(
        [
            "OK",
            "isv.X",
            "13900001234",
            "+6591234567",
            "UNREGISTERED",
            "INVALID_ARGUMENT",
            "200000",
            "300000",
            "21211",
            "\0",
        ]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=12,
)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """A real body with a stretch of it cut, repeated or overwritten."""
    start = draw(st.integers(0, len(original)))
    end = draw(st.integers(start, min(start + 40, len(original))))
    middle = draw(st.binary(max_size=8) | st.just(original[start:end] * 2) | st.sampled_from([b"", b"\0", b"\\u0000"]))
    return original[:start] + middle + original[end:]
