"""Canaries: words that are planted, and a look at every place where none of them may stand."""

import base64
import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus, urlsplit

from gateway.sealing import Sealer
from tests.stack.scene import Scene

NAME: Final = "Canaria Vogelsang"
LINK: Final = "https://pay.example.com/canary-link"
AMOUNT: Final = "7654321.09"
WORD: Final = "canaryword"


def secret(scene: Scene) -> list[str]:
    """Every secret the gateway was given or has fetched: whole, and the parts by which it could be put together."""
    environ = dict(scene.gateway.settings.environ)
    key = environ.pop("FCM_PRIVATE_KEY").strip().splitlines()[1]
    password = urlsplit(environ.pop("GATEWAY_DATABASE_DSN")).password
    assert password
    tokens = scene.world.simulator.access_tokens
    assert tokens, "no push was sent"
    parts = [part for token in tokens for part in token.split(".")[2:]]  # the chance in it and the proof
    return [*environ.values(), key, password, *tokens, *parts]


def found(words: Iterable[str], text: bytes) -> list[str]:
    """The words that stand in a text: as they are, as JSON or a URL has it, in base64, in hex as Postgres has bytes."""
    hits = []
    for word in words:
        forms = {word.encode(), quote(word).encode(), quote_plus(word).encode(), json.dumps(word)[1:-1].encode()}
        forms.add(word.encode().hex().encode())
        forms |= {base64.b64encode(b" " * pad + word.encode())[4:-4] for pad in range(3) if len(word) > 9}
        hits += [word for form in forms if form and form in text]
    return hits


async def every_cell(scene: Scene) -> list[tuple[str, bytes]]:
    """(table.column, bytes) of everything in the ledger that can hold a text, sealed columns too."""
    columns = await scene.sql(
        "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' "
        "and data_type in ('text', 'jsonb', 'json', 'bytea', 'character varying', 'ARRAY')"
    )
    cells = []
    for table, column, kind in columns:
        value = f'"{column}"' if kind == "bytea" else f"convert_to(\"{column}\"::text, 'UTF8')"
        rows = await scene.sql(f'select {value} from "{table}" where "{column}" is not null')
        cells += [(f"{table}.{column}", bytes(row[0])) for row in rows]
    return cells


def sealer_of(scene: Scene) -> Sealer:
    environ = scene.gateway.settings.environ
    key, index_key = (base64.b64decode(environ[name]) for name in ("GATEWAY_SEAL_KEY_1", "GATEWAY_INDEX_KEY"))
    return Sealer({1: key}, 1, index_key)


async def assert_nowhere_else(scene: Scene, planted: list[str], said: bytes, refused: str) -> set[str]:
    """None of them, and no secret, stands anywhere but at the vendor; returns the tables that were looked through.

    `said` is what Postgres has logged, which has quoted the row of the debt that it `refused`: a place to leak to.
    """
    words = planted + secret(scene)
    # The vendor did get them, so they were there to be leaked.
    assert set(found(planted, (scene.world.home / "simulator.jsonl").read_bytes())) > {"canary-link", "7,654,321"}
    log = scene.gateway.log.read_bytes()
    assert b'"level"' in log
    assert found(words, log) == []
    assert found(words, (await scene.gateway.metrics()).encode()) == []
    assert b"Failing row contains" in said
    assert refused.encode() in said
    assert found(words, said) == []
    for topic in (scene.world.topics.events, scene.world.topics.deadletters):
        records = await scene.world.records(topic)
        assert records
        for record in records:
            whole = b" ".join([record.key or b"", record.value, *(value for _, value in record.headers)])
            assert found(words, whole) == []
    cells = await every_cell(scene)
    assert [place for place, cell in cells if found(words, cell)] == []
    return {place.partition(".")[0] for place, _ in cells}
