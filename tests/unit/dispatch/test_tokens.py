"""Access tokens: one refresh for all who wait, kept until shortly before they expire, refused tokens replaced."""

import asyncio

import pytest

from gateway.dispatch.tokens import TokenCache
from gateway.dispatch.transport import MaybeSent, NotSent, Wire
from providers.contract import HttpRequest, HttpResponse, Refused, Token
from schemas.vocabulary import Failure, FailureScope

NO = Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, "invalid_grant")


class Issuer:
    """A token endpoint in memory, and the clock of the cache."""

    def __init__(self, lives: float = 3600.0) -> None:
        self.asked = 0
        self.now = 0.0
        self.lives = lives
        self.open = asyncio.Event()
        self.open.set()
        self.wire: NotSent | MaybeSent | None = None
        self.refuses: Refused | None = None
        self.told: list[Token | Refused] = []
        self.broken = False
        self.cache = TokenCache(self.build, self.parse, self.fetch, lambda: self.now, self.told.append)

    def build(self) -> HttpRequest:
        if self.broken:
            raise ValueError("a key that signs nothing")
        return HttpRequest("https://t/", {})

    async def fetch(self, request: HttpRequest) -> HttpResponse | NotSent | MaybeSent:
        self.asked += 1
        await self.open.wait()
        return self.wire or HttpResponse(200, {}, f"token-{self.asked}".encode())

    def parse(self, response: HttpResponse) -> Token | Refused:
        return self.refuses or Token(response.body.decode(), self.lives)


async def value(issuer: Issuer) -> str:
    token = await issuer.cache.get()
    assert isinstance(token, Token)
    return token.value


async def test_a_hundred_who_wait_make_one_request() -> None:
    issuer = Issuer()
    issuer.open.clear()
    waiting = [asyncio.create_task(issuer.cache.get()) for _ in range(100)]
    await asyncio.sleep(0)
    issuer.open.set()
    tokens = await asyncio.gather(*waiting)
    assert issuer.asked == 1
    assert all(token is tokens[0] for token in tokens)


async def test_one_who_gives_up_does_not_take_the_token_from_the_others() -> None:
    issuer = Issuer()
    issuer.open.clear()
    waiting = [asyncio.create_task(issuer.cache.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    issuer.open.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(isinstance(each, Token) for each in done[1:])
    assert issuer.asked == 1


@pytest.mark.parametrize(("lives", "kept"), [(3600.0, 3540.0), (90.0, 45.0), (10.0, 5.0)])
async def test_it_is_kept_until_shortly_before_it_expires(lives: float, kept: float) -> None:
    issuer = Issuer(lives)
    assert await value(issuer) == "token-1"
    issuer.now = kept - 0.1
    assert await value(issuer) == "token-1"
    issuer.now = kept
    assert await value(issuer) == "token-2"


async def test_a_refused_token_is_replaced_once_for_all_who_had_it() -> None:
    issuer = Issuer()
    old = await issuer.cache.get()
    assert isinstance(old, Token)
    issuer.cache.reject(old)
    new = await issuer.cache.get()
    assert isinstance(new, Token)
    issuer.cache.reject(old)  # another sender's answer, to the same old token
    assert await issuer.cache.get() is new
    assert issuer.asked == 2


@pytest.mark.parametrize("wire", [NotSent(Wire.DNS), MaybeSent(Wire.READ_TIMEOUT)])
async def test_an_endpoint_that_cannot_be_reached_is_worth_another_try(wire: NotSent | MaybeSent) -> None:
    """Even "maybe sent": asking for a token twice harms nobody."""
    issuer = Issuer()
    issuer.wire = wire
    assert await issuer.cache.get() == Refused(Failure.TRANSIENT, FailureScope.ACCOUNT, "token_unreachable")
    issuer.wire = None
    assert await value(issuer) == "token-2"


async def test_each_answer_is_told_once_however_many_wait() -> None:
    issuer = Issuer()
    await asyncio.gather(*(issuer.cache.get() for _ in range(10)))
    issuer.now, issuer.refuses = 4000.0, NO
    await asyncio.gather(*(issuer.cache.get() for _ in range(10)))
    issuer.broken = True
    done = await asyncio.gather(*(issuer.cache.get() for _ in range(10)), return_exceptions=True)
    assert {type(each) for each in done} == {ValueError}
    assert [each if isinstance(each, Refused) else "good" for each in issuer.told] == [
        "good", NO, Refused(Failure.BAD_CONFIG, FailureScope.ACCOUNT, "token_error"),
    ]  # fmt: skip


async def test_a_refusal_is_told_and_not_kept() -> None:
    issuer = Issuer()
    issuer.refuses = NO
    assert await issuer.cache.get() == NO
    issuer.refuses = None
    assert await value(issuer) == "token-2"


async def test_a_refusal_leaves_no_old_token_behind() -> None:
    issuer = Issuer()
    await value(issuer)
    issuer.now, issuer.refuses = 4000.0, NO
    assert await issuer.cache.get() == NO


def test_no_repr_shows_a_token() -> None:
    assert "canary" not in repr(Token("canary", 1.0))
