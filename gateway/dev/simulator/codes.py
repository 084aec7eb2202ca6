"""The vendors' own error codes and receipt codes, as data.

Each row: code -> (HTTP status, message[, canonical status]).  An unlisted code may still be scripted with its status.
Aliyun's are in `codes_aliyun`.
"""

from __future__ import annotations

from typing import Final

from gateway.dev.simulator.codes_aliyun import ALIYUN_SMS, ALIYUN_VOICE
from gateway.dev.simulator.fault import Fault
from gateway.dev.simulator.names import Outcome, Vendor

# https://www.twilio.com/docs/api/errors
TWILIO: Final = {
    "20003": Fault(401, "Authenticate"),
    "20404": Fault(404, "The requested resource was not found"),
    "20429": Fault(429, "Too Many Requests"),
    "20500": Fault(500, "Internal Server Error"),
    "20503": Fault(503, "Service Unavailable"),
    "21211": Fault(400, "Invalid 'To' Phone Number"),
    "21212": Fault(400, "Invalid 'From' Phone Number"),
    "21408": Fault(403, "Permission to send an SMS has not been enabled for the region"),
    "21601": Fault(400, "Phone number is not a valid SMS-capable inbound phone number"),
    "21602": Fault(400, "Message body is required"),
    "21603": Fault(400, "A 'From' phone number is required"),
    "21604": Fault(400, "A 'To' phone number is required"),
    "21606": Fault(400, "The 'From' phone number is not a valid, SMS-capable number of this account"),
    "21608": Fault(400, "The number is unverified; trial accounts cannot send to unverified numbers"),
    "21609": Fault(400, "Invalid 'StatusCallback' URL"),
    "21610": Fault(400, "Attempt to send to unsubscribed recipient"),
    "21611": Fault(429, "This 'From' number has exceeded the maximum number of queued messages"),
    "21612": Fault(400, "The 'To' phone number is not currently reachable using the 'From' number"),
    "21614": Fault(400, "'To' number is not a valid mobile number"),
    "21617": Fault(400, "The concatenated message body exceeds the 1600 character limit"),
}

# The same dictionary, for calls.  132xx are told while dialling and come in no answer, unless a script orders it.
TWILIO_VOICE: Final = {
    "12100": Fault(400, "Document parse failure"),
    "12200": Fault(400, "Schema validation warning"),
    "13223": Fault(400, "Dial: Invalid phone number format"),
    "13224": Fault(400, "Dial: Invalid phone number"),
    "13225": Fault(400, "Dial: Forbidden phone number"),
    "13227": Fault(400, "Dial: No international authorization"),
    "20001": Fault(400, "Unknown parameters"),
    "20003": Fault(401, "Authenticate"),
    "20404": Fault(404, "The requested resource was not found"),
    "20429": Fault(429, "Too Many Requests"),
    "20500": Fault(500, "Internal Server Error"),
    "20503": Fault(503, "Service Unavailable"),
    "21200": Fault(400, "Calls Resource"),
    "21201": Fault(400, "No 'To' number is specified"),
    "21205": Fault(400, "Url is not a valid URL"),
    "21208": Fault(400, "Invalid Timeout"),
    "21209": Fault(400, "Invalid method"),
    "21210": Fault(400, "The source phone number provided is not yet verified for your account"),
    "21211": Fault(400, "Invalid 'To' Phone Number"),
    "21212": Fault(400, "Invalid 'From' Phone Number"),
    "21213": Fault(400, "'From' phone number is required"),
    "21214": Fault(400, "'To' phone number cannot be reached"),
    "21215": Fault(400, "Account not authorized to call this number. Geo permissions are missing"),
    "21216": Fault(400, "Account not allowed to call this number"),
    "21217": Fault(400, "Phone number does not appear to be valid"),
    "21219": Fault(400, "'To' phone number not verified; trial accounts cannot call it"),
    "21609": Fault(400, "Invalid 'StatusCallback' URL"),
    "21626": Fault(400, "Invalid StatusCallbackEvent"),
    "32018": Fault(400, "Twiml size exceeded maximum allowed value of 4000 characters"),
}

# https://firebase.google.com/docs/cloud-messaging/error-codes
FCM: Final = {
    "INVALID_ARGUMENT": Fault(400, "The registration token is not a valid FCM registration token", "INVALID_ARGUMENT"),
    "UNREGISTERED": Fault(404, "Requested entity was not found.", "NOT_FOUND"),
    "SENDER_ID_MISMATCH": Fault(403, "SenderId mismatch", "PERMISSION_DENIED"),
    "QUOTA_EXCEEDED": Fault(429, "Quota exceeded.", "RESOURCE_EXHAUSTED"),
    "UNAVAILABLE": Fault(503, "The service is currently unavailable.", "UNAVAILABLE"),
    "INTERNAL": Fault(500, "Internal error encountered.", "INTERNAL"),
    "THIRD_PARTY_AUTH_ERROR": Fault(401, "Auth error from APNS or Web Push Service", "UNAUTHENTICATED"),
    "UNAUTHENTICATED": Fault(401, "Request had invalid authentication credentials.", "UNAUTHENTICATED"),
    "PERMISSION_DENIED": Fault(403, "Permission denied on resource project", "PERMISSION_DENIED"),
    "NOT_FOUND": Fault(404, "Not found.", "NOT_FOUND"),
    "BAD_PAYLOAD": Fault(400, "Invalid JSON payload received.", "INVALID_ARGUMENT"),
}
# Codes of the API itself; the others travel in a detail of type FcmError.
FCM_PLAIN: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "BAD_PAYLOAD"})

# https://developers.google.com/identity/protocols/oauth2/service-account#error-codes
OAUTH: Final = {
    "invalid_grant": Fault(400, "Invalid JWT Signature."),
    "invalid_scope": Fault(400, "Invalid OAuth scope or ID token audience provided."),
    "invalid_request": Fault(400, "Missing or malformed parameter."),
    "unsupported_grant_type": Fault(400, "Invalid grant_type."),
    "unauthorized_client": Fault(401, "Client is unauthorized to retrieve access tokens using this method."),
    "internal_failure": Fault(500, "Backend error."),
}

FAULTS: Final[dict[Vendor, dict[str, Fault]]] = {
    Vendor.TWILIO: TWILIO,
    Vendor.TWILIO_VOICE: TWILIO_VOICE,
    Vendor.FCM: FCM,
    Vendor.ALIYUN: ALIYUN_VOICE,
    Vendor.ALIYUN_SMS: ALIYUN_SMS,
    Vendor.OAUTH: OAUTH,
}

# https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks: statuses in order, and
# the ErrorCode of the last.  What Twilio cannot say about an SMS is told as its nearest word.
TWILIO_RECEIPTS: Final[dict[Outcome, tuple[tuple[str, ...], str | None]]] = {
    Outcome.DELIVERED: (("sent", "delivered"), None),
    Outcome.OPENED: (("sent", "delivered"), None),
    Outcome.ANSWERED: (("sent", "delivered"), None),
    Outcome.SENT: (("sent",), None),
    Outcome.UNDELIVERED: (("sent", "undelivered"), "30003"),
    Outcome.FAILED: (("failed",), "30008"),
    Outcome.BUSY: (("sent", "undelivered"), "30003"),
    Outcome.NO_ANSWER: (("sent", "undelivered"), "30003"),
    Outcome.DECLINED: (("sent", "undelivered"), "30004"),
    Outcome.NONE: ((), None),
}

# FCM has no receipts; these are the events the lender's app sends from the phone.
APP_EVENTS: Final[dict[Outcome, tuple[str, ...]]] = {
    Outcome.DELIVERED: ("delivered",),
    Outcome.ANSWERED: ("delivered",),
    Outcome.OPENED: ("delivered", "opened"),
}
