"""The language of what is planned: that which the borrower prefers where it has words, else that of his plan."""

import time

import pytest
from msgspec import structs

from gateway import policy
from gateway.dispatch.pipeline import Job, LenderRoutes, Steps
from gateway.personal import SEALED_FIELD, decode, encode
from gateway.worker import Lease
from schemas.vocabulary import Channel, Mode, Reason
from tests.unit.dispatch.case import PHONE, claimed
from tests.unit.dispatch.test_mode import SEALER, prepared, reminder, steps


def speaking(default: str | None) -> Steps:
    it = steps(Mode.LIVE, None)
    (name,) = it.providers
    return Steps(
        it.catalogue,
        SEALER,
        {"acme": LenderRoutes("Acme", default, {Channel.SMS: name})},
        it.providers,
        Mode.LIVE,
        None,
    )


@pytest.mark.parametrize(
    ("prefers", "of_plan", "default", "spoken"),
    [
        ("zh-CN", "en", None, "zh-CN"),
        ("en-GB", "zh-CN", None, "en"),
        ("fi", "zh-CN", None, "zh-CN"),
        ("fi", "zh-CN", "en", "zh-CN"),
        ("fi", "sv", "en", "en"),
        ("fi", None, "en", "en"),
        ("fi", None, None, None),
    ],
)
def test_he_is_spoken_to_in(prefers: str, of_plan: str | None, default: str | None, spoken: str | None) -> None:
    sealed = reminder(PHONE).claimed
    said = decode(SEALER.open(sealed.sealed, sealed.id, SEALED_FIELD))
    said = structs.replace(said, locale=prefers, locale_of_plan=of_plan)
    made = Job(claimed(sealed=SEALER.seal(encode(said), sealed.id, SEALED_FIELD)), Lease(3, time.monotonic() + 60))
    verdict = prepared(speaking(default), made)
    if spoken is None:
        assert verdict == policy.Hold(Reason.BUG, "render_unknown_locale")
    else:
        assert verdict is None
        assert made.rendered is not None
        assert made.rendered.locale == spoken
