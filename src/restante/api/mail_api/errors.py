"""Refusals in the Mail API's words: the error tree to codes and statuses, and the one envelope.

``{"success": false, "error": CODE, "message": text, "detail": text}``; validation adds ``fields``.
"""

import msgspec

from restante import errors
from restante.api.mail_api.shapes import Failure
from restante.http import problems
from restante.http.answers import Answer
from restante.http.problems import Problem

# Codes of the core (and of HTTP mechanics) that have another name or status here. What is not listed keeps its name in
# capitals if the contract has it, else it becomes the ordinary code of its class.
NAMED: dict[str, tuple[str, int]] = {
    "no_api_token": ("NO_API_TOKEN", 401),
    "invalid_token": ("INVALID_TOKEN", 401),
    "token_expired": ("TOKEN_EXPIRED", 401),
    "access_denied": ("ACCESS_DENIED", 403),
    "mailbox_not_found": ("MAILBOX_NOT_FOUND", 404),
    "message_not_found": ("MESSAGE_NOT_FOUND", 404),
    "attachment_not_found": ("ATTACHMENT_NOT_FOUND", 404),
    "domain_not_found": ("DOMAIN_NOT_FOUND", 404),
    "user_not_found": ("USER_NOT_FOUND", 404),
    "folder_not_found": ("INVALID_FOLDER", 400),
    "invalid_folder": ("INVALID_FOLDER", 400),
    "domain_not_allowed": ("DOMAIN_NOT_ALLOWED", 403),
    "sender_not_authorized": ("SENDER_NOT_AUTHORIZED", 403),
    "submission_not_found": ("MESSAGE_NOT_FOUND", 404),
    "nothing_bounced": ("NOTHING_BOUNCED", 409),
    "bytes_gone": ("BYTES_GONE", 409),
    "already_final": ("ALREADY_FINAL", 409),
    "idempotency_conflict": ("IDEMPOTENCY_CONFLICT", 409),
    "send_failed": ("SEND_FAILED", 500),
    "too_busy": ("TOO_BUSY", 503),
    "invalid_address": ("VALIDATION_ERROR", 422),
    "signup_disabled": ("SIGNUP_DISABLED", 403),
    "domain_exists": ("DOMAIN_EXISTS", 409),
    "email_exists": ("EMAIL_EXISTS", 409),
    "address_exists": ("EMAIL_EXISTS", 409),
    "domain_already_active": ("DOMAIN_ALREADY_ACTIVE", 409),
    "email_domain_mismatch": ("EMAIL_DOMAIN_MISMATCH", 400),
    "weak_password": ("WEAK_PASSWORD", 400),
    "invalid_domain": ("INVALID_DOMAIN", 400),
    "invalid_permission": ("INVALID_PERMISSION", 400),
    "invalid_credentials": ("INVALID_CREDENTIALS", 401),
    "not_a_session": ("NOT_A_SESSION", 409),
    "token_not_found": ("TOKEN_NOT_FOUND", 404),
    "permission_not_found": ("PERMISSION_NOT_FOUND", 404),
    "alias_not_found": ("ALIAS_NOT_FOUND", 404),
    "mailbox_not_empty": ("MAILBOX_NOT_EMPTY", 409),
    "domain_not_empty": ("DOMAIN_NOT_EMPTY", 409),
    "folder_exists": ("FOLDER_EXISTS", 409),
    "folder_not_empty": ("FOLDER_NOT_EMPTY", 409),
    "special_folder": ("FOLDER_PROTECTED", 409),
    "invalid": ("VALIDATION_ERROR", 422),
    "invalid_json": ("INVALID_JSON", 400),
}

BY_CLASS: tuple[tuple[type[errors.RestanteError], str, int], ...] = (
    (errors.RateLimited, "RATE_LIMITED", 429),
    (errors.QuotaExceeded, "QUOTA_EXCEEDED", 507),
    (errors.TooLarge, "PAYLOAD_TOO_LARGE", 413),
    (errors.LimitExceeded, "LIMIT_EXCEEDED", 422),
    (errors.Invalid, "VALIDATION_ERROR", 422),
    (errors.Unauthenticated, "INVALID_TOKEN", 401),
    (errors.Forbidden, "ACCESS_DENIED", 403),
    (errors.NotFound, "NOT_FOUND", 404),
    (errors.Conflict, "CONFLICT", 409),
    (errors.Unavailable, "IMAP_ERROR", 500),  # the seed's word for storage trouble
    (errors.RestanteError, "INTERNAL_ERROR", 500),
)


def explain(error: errors.RestanteError) -> Problem:
    """An expected failure as the contract names it."""
    ordinary = problems.from_error(error)
    named = NAMED.get(error.code)
    if named is None:
        code, status = next((code, status) for kind, code, status in BY_CLASS if isinstance(error, kind))
    else:
        code, status = named
    return Problem(status, code, ordinary.message, ordinary.fields, ordinary.headers)


def render(problem: Problem) -> Answer:
    """The envelope. Fields are shown for validation errors only."""
    code = NAMED[problem.code][0] if problem.code in NAMED else problem.code.upper()
    fields = {name: list(reasons) for name, reasons in problem.fields.items()} if problem.status == 422 else {}
    failure = Failure(False, code, problem.message, problem.message, fields)
    return Answer(msgspec.json.encode(failure), status=problem.status, headers=problem.headers)
