"""Calls: dialled, answered or not, spoken to the end, and told to the status callback.

The transcript is in the log before the last callback leaves, so whoever was told that a call is over finds there what
it said and heard.  A call still under way when the simulator stops is logged as it was; one that is killed is not.
"""

from __future__ import annotations

import re
from email.utils import format_datetime
from math import ceil

from gateway.dev.simulator.callee import TWILIO_UNANSWERED, Unanswered, whom
from gateway.dev.simulator.config import CallSettings, ReceiptSettings
from gateway.dev.simulator.courier import Courier
from gateway.dev.simulator.dial import Dial
from gateway.dev.simulator.dialogue import Dialogue, Goto
from gateway.dev.simulator.journal import Journal
from gateway.dev.simulator.line import End, Line
from gateway.dev.simulator.names import Ending, Kind, Pickup, Vendor
from gateway.dev.simulator.outward import Outward
from gateway.dev.simulator.progress import Progress
from gateway.dev.simulator.script import Plan
from gateway.dev.simulator.twilio_account import API_VERSION, Account
from gateway.dev.simulator.wire import Answer, Order, Post

_APOLOGY = "We are sorry, an application error has occurred. Goodbye."
_DETECTED = {Pickup.HUMAN: "human", Pickup.MACHINE: "machine_start"}
_DETECTING = {"Enable": 4.0, "DetectMessageEnd": 10.0}  # seconds; the latter hears a greeting to its end


class Switchboard:
    """Where calls are made."""

    def __init__(
        self,
        account: Account,
        journal: Journal,
        courier: Courier,
        outward: Outward,
        settings: CallSettings,
        receipts: ReceiptSettings,
        marker: str,
    ) -> None:
        self.account = account
        self.journal = journal
        self.courier = courier
        self.outward = outward
        self.settings = settings
        self.delay = receipts.delay
        self.marker = re.compile(marker)

    def dial(self, order: Order, dial: Dial, call_id: str, plan: Plan) -> None:
        """Begins a call, and returns at once."""
        call = _Call(self, order, dial, call_id, plan)
        self.courier.begin(call.progress.run())
        self.courier.begin(call.run())


class _Call:
    def __init__(self, board: Switchboard, order: Order, dial: Dial, call_id: str, plan: Plan) -> None:
        self._board = board
        self._order = order
        self._dial = dial
        self._id = call_id
        self._plan = plan
        self._callee = whom(plan.callee, plan.receipts.outcome)
        self._line = Line(self._callee, board.settings.scale, dial.time_limit)
        self._told = 0
        self._status = "queued"
        self._answered_by: str | None = None
        self.progress = Progress(board.courier, plan, board.delay)

    async def live(self) -> None:
        """The whole call, whatever ends it."""
        end, sip = End(Ending.STOPPED), "200"
        try:
            self._tell("initiated", "initiated")
            missed = await self._ring()
            end = await self._talk() if missed is None else End(Ending.NOT_ANSWERED)
            self._status, sip = ("completed", sip) if missed is None else (missed.status, missed.sip)
        finally:
            self._record(end)
        seconds = ceil(self._line.seconds)
        final = {
            "CallDuration": str(seconds),
            "Duration": str(ceil(seconds / 60)),
            "SipResponseCode": self._plan.receipts.code or sip,
            **self._detected(),
        }
        self._tell("completed", self._status, final)

    async def run(self) -> None:
        """`live`, and then nothing is left to tell."""
        try:
            await self.live()
        finally:
            self.progress.close()

    async def _ring(self) -> Unanswered | None:
        """Why nobody answered, or None."""
        callee, patience = self._callee, self._dial.timeout
        missed = None if callee.pickup.answers else TWILIO_UNANSWERED[callee.pickup]
        if missed is not None and not missed.rings:
            return missed
        self._tell("ringing", "ringing")
        if callee.rings > patience or callee.pickup is Pickup.NO_ANSWER:
            await self._line.wait(patience)
            return TWILIO_UNANSWERED[Pickup.NO_ANSWER]
        await self._line.wait(callee.rings)
        return missed

    async def _talk(self) -> End:
        self._tell("answered", "in-progress")
        end = self._line.gone() or await self._detect()
        if end is not None:
            return end
        end = await Dialogue(
            self._board.account,
            self._board.outward,
            self._line,
            {**self._form("in-progress"), **self._detected()},
            self._board.settings.steps,
            self._asked,
        ).hold(self._dial)
        if end.why is Ending.APPLICATION_ERROR:
            self._line.note("apology", text=_APOLOGY, language="en-US", voice=None)
        return end

    async def _detect(self) -> End | None:
        if self._dial.detection is None:
            return None
        end = await self._line.spend(_DETECTING[self._dial.detection])
        found = _DETECTED[self._callee.pickup]
        if found == "machine_start" and self._dial.detection == "DetectMessageEnd":
            found = "machine_end_beep"
        self._answered_by = self._callee.detected or found
        return end

    def _detected(self) -> dict[str, str]:
        return {"AnsweredBy": self._answered_by} if self._answered_by else {}

    def _form(self, status: str) -> dict[str, str]:
        return {
            "CallSid": self._id, "AccountSid": self._board.account.sid, "From": self._dial.caller,
            "To": self._order.recipient, "CallStatus": status, "ApiVersion": API_VERSION, "Direction": "outbound-api",
        }  # fmt: skip

    def _tell(self, event: str, status: str, more: dict[str, str] | None = None) -> None:
        self._status = status
        if not self._dial.callback or event not in self._dial.events:
            return
        form = {
            **self._form(status),
            "Timestamp": format_datetime(self._board.courier.pace.now()),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._told),
            **(more or {}),
        }
        self._told += 1
        method = self._dial.callback_method
        route = self._board.account.webhook(Vendor.TWILIO_VOICE, self._dial.callback, method, form)
        post = Post(route, self._id, self._order.reference, status, lambda _now: form)
        self.progress.tell(post, last=event == "completed")

    def _asked(self, goto: Goto, attempt: int, answer: Answer) -> None:
        self._board.journal.write(
            Kind.DIALOGUE,
            vendor=Vendor.TWILIO_VOICE.value,
            id=self._id,
            reference=self._order.reference,
            step=goto.step,
            digits=goto.digits,
            attempt=attempt,
            answer=answer,
        )

    def _record(self, end: End) -> None:
        texts = (part["text"] for part in self._line.transcript if part["event"] == "say")
        found = next(filter(None, map(self._board.marker.search, texts)), None)
        self._board.journal.write(
            Kind.CALL,
            vendor=Vendor.TWILIO_VOICE.value,
            id=self._id,
            recipient=self._order.recipient,
            reference=self._order.reference,
            marker=found.group() if found else None,
            status=self._status,
            pickup=self._callee.pickup.value,
            answered_by=self._answered_by,
            ended=end.why.value,
            code=end.code,
            detail=end.detail,
            seconds=round(self._line.seconds, 2),
            transcript=self._line.transcript,
        )
