"""The one map from the error tree to SMTP replies with enhanced codes (RFC 5321 §4.2.3, RFC 3463).

A known ``code`` decides first, then the nearest class. The same error means different things about a recipient, a
message and a login, so there is a table for each. Whatever is not in the tree is our fault: 451, and no details.
"""

from collections.abc import Mapping
from typing import Literal

from restante import errors
from restante.wire.smtp import Reply

Stage = Literal["sender", "recipient", "message", "login"]

UNEXPECTED = Reply(451, "4.3.0", "Temporary local problem, try again later")
_LATER = Reply(451, "4.3.0", "Try again later")

_BY_CODE: Mapping[str, Reply] = {
    "mailbox_not_found": Reply(550, "5.1.1", "No such mailbox here"),
    "mailbox_disabled": Reply(550, "5.2.1", "The mailbox is disabled"),
    "over_quota": Reply(452, "4.2.2", "The mailbox is full"),
    "domain_inactive": Reply(550, "5.7.1", "The domain is not active here"),
    "relay_denied": Reply(550, "5.7.1", "relaying denied"),
    "loop": Reply(554, "5.4.6", "The message is looping"),
    "bare_newline": Reply(550, "5.6.0", "Bare CR or LF in the message"),
    "storage_full": Reply(452, "4.3.1", "Not enough room now, try again later"),
    "domain_not_allowed": Reply(550, "5.7.1", "The sender's domain is not allowed here"),
    "sender_not_authorized": Reply(553, "5.7.1", "The sender is not an address of this login"),
    "bad_from": Reply(550, "5.6.0", "The message needs one From field with addresses"),
}

_RECIPIENT: Mapping[type[errors.RestanteError], Reply] = {
    errors.RestanteError: _LATER,
    errors.Invalid: Reply(553, "5.1.3", "That is not a mail address we can use"),
    errors.Unauthenticated: Reply(530, "5.7.0", "Authentication required"),
    errors.Forbidden: Reply(550, "5.7.1", "Not allowed"),
    errors.NotFound: Reply(550, "5.1.1", "No such mailbox here"),
    errors.Conflict: _LATER,
    errors.LimitExceeded: Reply(452, "4.5.3", "Too much, try again later"),
    errors.QuotaExceeded: Reply(452, "4.2.2", "The mailbox is full"),
    errors.RateLimited: Reply(450, "4.7.1", "Too many messages, try again later"),
    errors.TooLarge: Reply(552, "5.3.4", "The message is too large"),
    errors.Unavailable: _LATER,
    errors.RemoteUnavailable: Reply(451, "4.4.1", "Another server does not answer, try again later"),
}

_SENDER: Mapping[type[errors.RestanteError], Reply] = {
    **_RECIPIENT,
    errors.Invalid: Reply(553, "5.1.7", "That is not a sender address we can use"),
    errors.NotFound: _BY_CODE["sender_not_authorized"],
}

_MESSAGE: Mapping[type[errors.RestanteError], Reply] = {
    **_RECIPIENT,
    errors.Invalid: Reply(554, "5.6.0", "The message cannot be accepted"),
    errors.NotFound: Reply(550, "5.1.1", "The mailbox is gone"),
}

_LOGIN: Mapping[type[errors.RestanteError], Reply] = {
    **_RECIPIENT,
    errors.RestanteError: Reply(454, "4.7.0", "Authentication is not possible now"),
    errors.Invalid: Reply(501, "5.5.2", "The authentication data cannot be read"),
    errors.Unauthenticated: Reply(535, "5.7.8", "The credentials do not hold"),
    errors.Forbidden: Reply(535, "5.7.8", "The credentials do not hold"),
    errors.NotFound: Reply(535, "5.7.8", "The credentials do not hold"),
    errors.Conflict: Reply(454, "4.7.0", "Authentication is not possible now"),
    errors.LimitExceeded: Reply(454, "4.7.0", "Too many attempts, try again later"),
    errors.QuotaExceeded: Reply(454, "4.7.0", "Too many attempts, try again later"),
    errors.RateLimited: Reply(454, "4.7.0", "Too many attempts, try again later"),
    errors.TooLarge: Reply(501, "5.5.2", "The authentication data cannot be read"),
    errors.Unavailable: Reply(454, "4.7.0", "Authentication is not possible now"),
    errors.RemoteUnavailable: Reply(454, "4.7.0", "Authentication is not possible now"),
}

_STAGES: Mapping[Stage, Mapping[type[errors.RestanteError], Reply]] = {
    "sender": _SENDER,
    "recipient": _RECIPIENT,
    "message": _MESSAGE,
    "login": _LOGIN,
}


def reply_for(error: BaseException, stage: Stage) -> Reply:
    """The reply for an error that ended a command; ``stage`` is what the command was about."""
    if not isinstance(error, errors.RestanteError):
        return UNEXPECTED
    if stage != "login" and (known := _BY_CODE.get(error.code)):
        return known
    table = _STAGES[stage]
    return next(table[kind] for kind in type(error).__mro__ if kind in table)
