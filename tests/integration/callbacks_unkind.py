"""What nobody means well: requests that are none, delimited twice, too large, packed; bodies that are hard to read."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.integration.callbacks_by_hand import Door

MIB: Final = 2**20

# --- how a request is delimited ---------------------------------------------------------------------------------------


def _with(*headers: str, body: Callable[[Door], bytes] = lambda door: door.body) -> Callable[[Door], list[bytes]]:
    """A good callback but for these headers, and another one behind it that must not be read."""
    return lambda door: [door.head(door.body, *headers) + body(door) + door.whole()]


def _chunks(*parts: bytes, end: bytes = b"0\r\n\r\n") -> Callable[[Door], bytes]:
    return lambda door: b"".join(parts) + end


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def _length(door: Door) -> str:
    return f"Content-Length: {len(door.body)}"


def _many(n: int) -> Callable[[Door], list[bytes]]:
    return lambda door: [door.head(door.body, _length(door), *(f"X-{each}: y" for each in range(n))) + door.body]


GZIP_BOMB: Final = gzip.compress(bytes(50 * MIB))
DEFLATE_BOMB: Final = zlib.compress(bytes(50 * MIB))
TE: Final = "Transfer-Encoding: chunked"
REFUSED: Final[Mapping[str, Callable[[Door], list[bytes]]]] = {
    "cl-te": lambda door: _with(_length(door), TE, body=_chunks())(door),
    "te-cl": lambda door: _with(TE, _length(door), body=_chunks())(door),
    "cl-cl": lambda door: _with(_length(door), "Content-Length: 0")(door),
    "cl-cl-same": lambda door: _with(_length(door), _length(door))(door),
    "cl-list": lambda door: _with(f"{_length(door)}, {len(door.body)}")(door),
    "cl-plus": lambda door: _with(f"Content-Length: +{len(door.body)}")(door),
    "cl-hex": lambda door: _with(f"Content-Length: {len(door.body):#x}")(door),
    "cl-negative": _with("Content-Length: -1"),
    "cl-endless": _with("Content-Length: " + "9" * 40),
    "cl-space": lambda door: _with(f"Content-Length : {len(door.body)}")(door),
    "cl-none": _with(),
    "te-te": _with(TE, "Transfer-Encoding: identity", body=_chunks()),
    "te-twice": _with("Transfer-Encoding: chunked, chunked", body=_chunks()),
    "te-then-identity": _with("Transfer-Encoding: chunked, identity", body=_chunks()),
    "te-gzip": _with("Transfer-Encoding: gzip, chunked", body=_chunks()),
    "te-unknown": _with("Transfer-Encoding: xchunked", body=_chunks()),
    "te-vertical-tab": _with("Transfer-Encoding: \x0bchunked", body=_chunks()),
    "te-folded": _with("Transfer-Encoding:\r\n chunked", body=_chunks()),
    "te-space": _with("Transfer-Encoding : chunked", body=_chunks()),
    "chunk-extension": _with(TE, body=_chunks(b"4;a\nb\r\nabcd\r\n")),
    "chunk-negative": _with(TE, body=_chunks(b"-4\r\nabcd\r\n")),
    "chunk-endless": _with(TE, body=_chunks(b"f" * 17 + b"\r\nabcd\r\n")),
    "chunk-hex": _with(TE, body=_chunks(b"0x4\r\nabcd\r\n")),
    "chunk-bare-lf": _with(TE, body=_chunks(b"4\nabcd\n", end=b"0\n\n")),
    "chunk-longer": _with(TE, body=_chunks(b"4\r\nabcdXX")),
    "trailer-length": _with(TE, body=_chunks(b"4\r\nabcd\r\n", end=b"0\r\nContent-Length: 5\r\n\r\n")),
    "trailer-flood": _with(TE, body=_chunks(end=b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n")),
    "bare-lf": lambda door: [door.whole().replace(b"\r\n", b"\n")],
    "bare-cr": _with("X: a\rb", "Content-Length: 0"),
    "nul": _with("X: a\0b", "Content-Length: 0"),
    "no-host": lambda door: [door.whole().replace(b"Host: gateway\r\n", b"")],
    "two-hosts": lambda door: [door.whole(None, "Host: other")],
    "200-headers": _many(200),
    "20000-headers": _many(20_000),
    "long-line": _with("X: " + "y" * 64 * 1024),
    "long-name": _with("y" * 64 * 1024 + ": y"),
    "long-path": lambda door: [door.head(door.body, _length(door), path="/callbacks/twilio/" + "a" * 64 * 1024)],
    "long-head": lambda door: [door.head(door.body, _length(door), *(f"X-{n}: {'y' * 8000}" for n in range(100)))],
    "http-0.9": lambda door: [f"POST {door.path(door.body)}\r\n\r\n".encode()],
    "http-3": lambda door: [door.whole().replace(b"HTTP/1.1", b"HTTP/3.0", 1)],
    "http-2-preface": lambda door: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100)],
    "tls": lambda door: [bytes.fromhex("16030100a5010000a10303") + bytes(200)],
    "garbage": lambda door: [bytes(range(256)) * 40],
    "connect": lambda door: [b"CONNECT other:443 HTTP/1.1\r\nHost: gateway\r\n\r\n" + door.whole()],
    "get": lambda door: [door.whole().replace(b"POST", b"GET", 1) + door.whole()],
    "put": lambda door: [door.whole().replace(b"POST", b"PUT", 1) + door.whole()],
    "absolute": lambda door: [door.whole().replace(b"POST ", b"POST http://other", 1)],
    "2-mib": lambda door: _sized(door, [b"x" * 2 * MIB]),
    "2-mib-promised": lambda door: [door.head(door.body, f"Content-Length: {2 * MIB}") + door.body],
    "2-mib-chunked": lambda door: [door.head(door.body, TE), *[_chunked(b"x" * 65536)] * 32, b"0\r\n\r\n"],
    "2-mib-of-tiny-chunks": lambda door: [door.head(door.body, TE), *[b"1\r\nx\r\n" * 10_000] * 35],
    "gzip-bomb": lambda door: _coded(door, "gzip", GZIP_BOMB),
    "gzip": lambda door: _coded(door, "gzip", gzip.compress(door.body)),
    "deflate-bomb": lambda door: _coded(door, "deflate", DEFLATE_BOMB),
    "gzip-bomb-chunked": lambda door: [
        door.head(door.body, TE, "Content-Encoding: gzip"), _chunked(GZIP_BOMB), b"0\r\n\r\n",
    ],
}  # fmt: skip


def _sized(door: Door, body: list[bytes]) -> list[bytes]:
    return [door.head(door.body, f"Content-Length: {sum(map(len, body))}"), *body]


def _coded(door: Door, coding: str, body: bytes) -> list[bytes]:
    return [door.head(door.body, f"Content-Length: {len(body)}", f"Content-Encoding: {coding}") + body]


# --- what a body says -------------------------------------------------------------------------------------------------


def bodies(door: Door) -> Iterator[tuple[str, bytes]]:
    """Within the limits, and authentic: these are read by the vendor's adapter."""
    deep = 100_000
    yield "empty", b""
    yield "not-utf-8", b"\xff\xfe\x80" + door.body
    yield "nul", b"\0" + door.body
    yield "cut", door.body[: len(door.body) // 2]
    if not door.reads_json:
        field = door.body.partition(b"=")[0]
        yield "bad-escapes", field + b"=%zz%&%%%=%ff%c0%80"
        yield "named-twice", b"&".join(part + b"&" + part.partition(b"=")[0] + b"=?" for part in door.body.split(b"&"))
        yield "many-fields", b"&".join(b"a%d=b" % n for n in range(20_000))
        yield "one-field-many-times", b"a=b&" * 60_000
        yield "ampersands", b"&" * 250_000
        yield "long-value", field + b"=" + b"1" * 250_000
        yield "deep-brackets", field + b"[a]" * 60_000 + b"=1"
        return
    yield "deep-arrays", b"[" * deep + b"]" * deep
    yield "deep-arrays-cut", b"[" * 2 * deep
    yield "deep-objects", b'{"a":' * 40_000 + b"1" + b"}" * 40_000
    yield "deep-inside", b'[{"out_id":' + b"[" * deep + b"]" * deep + b"}]"
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999999", b"9" * 100_000, b"-0", b"1." + b"1" * 100_000):
        yield f"number-{number[:12].decode()}-{len(number)}", b'[{"status_code":' + number + b',"call_id":"1^1"}]'
        yield f"bare-{number[:12].decode()}-{len(number)}", number
    yield "half-a-character", b'[{"status_code":"\\ud800","call_id":"\\udfff","content":"\\ud83d"}]'
    yield "nul-inside", b'[{"status_code":"200000","call_id":"1^1\\u0000","out_id":"\\u0000"}]'
    yield "many-elements", b"[" + b",".join([b"1"] * 120_000) + b"]"
    yield "many-empty-objects", b"[" + b",".join([b"{}"] * 80_000) + b"]"
    yield "many-keys", json.dumps([{f"k{n}": n for n in range(15_000)}]).encode()
    yield "same-keys", b"{" + b",".join([b'"a":1'] * 40_000) + b"}"
    yield "byte-order-mark", b"\xef\xbb\xbf" + door.body
    yield "utf-16", door.body.decode().encode("utf-16")
    yield "other-types", b'[{"status_code":{},"call_id":[],"out_id":1,"phone_number":null,"success":"yes"}]'
    yield "twice", door.body + door.body
