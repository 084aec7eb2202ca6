"""What an answer means: every status, every documented code, and anything at all without raising."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.contract import Accepted, Ambiguous, HttpResponse, Outcome, Refused, Token
from providers.reading import UNREADABLE as UNREADABLE_CODE
from schemas.vocabulary import Failure, FailureScope
from tests.contract.case import ADAPTERS, Case, load_case
from tests.contract.strategies import HEADERS, JSON, UNREADABLE, encoded, mutated

STATUSES = range(100, 600)
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


def unreadable_means(status: int) -> Outcome:
    """Written once more, from the rule: only a status that says "not taken" may say so."""
    code, account = f"http_{status}", FailureScope.ACCOUNT
    if status in (401, 403, 407) or status // 100 == 3:
        return Refused(Failure.BAD_CONFIG, account, code)
    if status == 429:
        return Refused(Failure.THROTTLED, account, code)
    if status // 100 == 4 and status != 408:
        return Refused(Failure.BUG, account, code)
    return Ambiguous(code)


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_every_status_with_an_unreadable_body(case: Case, body: bytes) -> None:
    statuses = STATUSES if len(body) < 10_000 else range(100, 600, 9)
    for status in statuses:
        assert case.adapter.classify_response(HttpResponse(status, {}, body)) == unreadable_means(status)


def test_every_status_with_every_documented_answer(case: Case) -> None:
    """A vendor's code may come with another status than documented; acceptance needs a 2xx all the same."""
    bodies = {response.body for response, _ in case.answers}
    for status in STATUSES:
        for body in bodies:
            check(case.adapter.classify_response(HttpResponse(status, {}, body)), status)


def test_every_documented_answer(case: Case) -> None:
    wrong = [
        (response.status, response.body, outcome, expected)
        for response, expected in case.answers
        if (outcome := case.adapter.classify_response(response)) != expected
    ]
    assert not wrong


def test_every_code_of_the_tables_has_its_row_in_the_case(case: Case) -> None:
    """A code added to an adapter's table needs a row here too, written from the vendor's page."""
    known = [response.body for response, _ in case.answers] + [sample.callback.body for sample in case.samples]
    text = b" ".join(known).decode("utf-8", "replace")
    tables = {
        name: value for name, value in vars(import_module(type(case.adapter).__module__)).items() if name.isupper()
    }
    for name, table in tables.items():
        codes = [code for code in table if type(code) is str] if isinstance(table, dict) else []
        missing = [code for code in codes if not re.search(rf"(?<!\w){re.escape(code)}", text)]
        assert not missing, name


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(case: Case, status: int) -> None:
    classify = case.adapter.classify_response
    for value, seconds in (("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("-1", None), ("soon", None), ("9" * 40, None)):
        outcome = classify(HttpResponse(status, {"retry-after": value}, b""))
        assert getattr(outcome, "retry_after", None) == (seconds if isinstance(outcome, Refused) else None)


def check(outcome: object, status: int) -> None:
    """The outcome is one of the three and carries nothing that could not be stored or shown."""
    match outcome:
        case Accepted(ref):
            assert 200 <= status < 300
            assert 0 < len(ref) <= 200
            assert ref.isascii()
            assert ref.isprintable()
            assert " " not in ref
        case Refused(failure, scope, code, retry_after):
            assert isinstance(failure, Failure)
            assert failure is not Failure.AMBIGUOUS
            assert isinstance(scope, FailureScope)
            assert CODE.fullmatch(code)
            assert retry_after is None or 0 <= retry_after < 1e10
        case Ambiguous(code):
            assert CODE.fullmatch(code)
        case other:
            raise AssertionError(f"not an outcome: {type(other)}")


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_classify_never_raises(name: str) -> None:
    case = load_case(name)
    real = [response.body for response, _ in case.answers]
    bodies = st.binary(max_size=200) | JSON.map(encoded) | st.sampled_from(real).flatmap(mutated)

    @settings(max_examples=300, deadline=None)
    @given(status=st.integers(100, 599) | st.sampled_from([200, 201, 400, 429]), headers=HEADERS, body=bodies)
    def run(status: int, headers: dict[str, str], body: bytes) -> None:
        check(case.adapter.classify_response(HttpResponse(status, headers, body)), status)

    run()


def test_tokens(case: Case) -> None:
    if not case.adapter.needs_token:
        with pytest.raises(NotImplementedError):
            case.adapter.parse_token(HttpResponse(200))
        return
    assert case.token_answers
    for response, expected in case.token_answers:
        assert case.adapter.parse_token(response) == expected


@pytest.mark.parametrize("name", sorted(name for name, adapter in ADAPTERS.items() if adapter.needs_token))
def test_parse_token_never_raises(name: str) -> None:
    case = load_case(name)
    parse: Callable[[HttpResponse], Token | Refused] = case.adapter.parse_token
    for status in STATUSES:
        for label, body in UNREADABLE.items():
            if status % 50 in (0, 1, 29) or len(body) < 10_000:
                outcome = parse(HttpResponse(status, {}, body))
                assert isinstance(outcome, Refused), label
                check(outcome, status)

    @settings(max_examples=200, deadline=None)
    @given(status=st.integers(100, 599) | st.just(200), headers=HEADERS, value=JSON)
    def run(status: int, headers: dict[str, str], value: object) -> None:
        outcome = parse(HttpResponse(status, headers, encoded(value)))
        if isinstance(outcome, Token):
            assert status == 200
            assert outcome.value.isprintable()
            assert outcome.expires_in > 0
        else:
            check(outcome, status)

    run()


def test_a_code_that_could_be_personal_is_not_passed_on(case: Case) -> None:
    for response, outcome in case.answers:
        code = getattr(outcome, "code", UNREADABLE_CODE)
        assert not any(value in code for value in case.personal), response.body
