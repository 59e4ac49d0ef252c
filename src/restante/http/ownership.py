"""Which dialect owns which path: the table that settles every collision of five APIs on one host.

Patterns are regular expressions over the decoded path without its trailing slash; the first line that matches
decides. A dialect's registered routes must agree with it (``resolver.Resolver`` checks at start), and the lines of
dialects that are not built yet keep their places, so that no path changes hands later.
"""

from dataclasses import dataclass

INSTANCE = "instance"  # what belongs to no dialect: /, /health, documentation, metrics, the web UI
NATIVE = "native"
MAIL_API = "mail-api"
MAILCARE = "mailcare"
MAILTRIGGER = "mailtrigger"
TEMP_MAIL = "temp-mail"
TREKMAIL = "trekmail"

DIALECTS = (MAIL_API, MAILCARE, MAILTRIGGER, NATIVE, TEMP_MAIL, TREKMAIL)


@dataclass(frozen=True, slots=True)
class Claim:
    """One line: ``pattern`` belongs to ``owner``; when ``is_shared`` a credential may name another dialect."""

    owner: str
    pattern: str
    is_shared: bool = False


_REST = r"(?:/.*)?"
_TREKMAIL_WORDS = (
    "account|aliases|billing|cloudflare|delete-intents|dns-checks|drive|mailboxes|me|members|message-tokens|messages|"
    "migrations|shared-mailboxes|smtp|support|tickets|verify"
)

CLAIMS: tuple[Claim, ...] = (
    Claim(INSTANCE, r"/"),
    Claim(INSTANCE, r"/(?:health|redoc|metrics|openapi\.json|openapi/[^/]+)"),
    Claim(INSTANCE, rf"/(?:docs|app|mcp|\.well-known){_REST}"),
    Claim(NATIVE, rf"/restante/v1{_REST}"),
    Claim(TREKMAIL, r"/api/openapi\.json|/d/[^/]+"),
    Claim(MAILCARE, rf"/api/(?:teams|emails|automations){_REST}|/api/statistics"),
    # an id before "archives" or "data" is MailTrigger's whatever it looks like, before "folders" ... the Mail API's
    Claim(MAILTRIGGER, rf"/api/v1/mailbox/[^/]+/(?:archives|data){_REST}|/api/v1/task-configs{_REST}"),
    Claim(MAILTRIGGER, rf"/(?:v1|swagger|api/mailbox){_REST}"),
    Claim(MAIL_API, rf"/api/v1/mailbox/.+/(?:folders|messages|search|quota){_REST}"),
    Claim(MAIL_API, rf"/api/v1/(?:mail|stats|tokens|auth|permissions|users){_REST}"),
    Claim(MAIL_API, r"/api/v1/domains/pending|/api/v1/domains/[^/]+/approve"),
    # a name with a dot is the Mail API's, a number TrekMail's; what is neither goes by credential
    Claim(MAIL_API, r"/api/v1/domains/[^/.]+\.[^/]*(?:/(?:dns|verify))?"),
    Claim(TREKMAIL, r"/api/v1/domains", is_shared=True),
    Claim(TREKMAIL, rf"/api/v1/domains/\d+(?::[^/]*)?{_REST}|/api/v1/domains:[^/]+"),
    Claim(TREKMAIL, rf"/api/v1/(?:{_TREKMAIL_WORDS})(?::[^/]*)?{_REST}"),
    Claim(TREKMAIL, rf"/api/v1{_REST}", is_shared=True),
    Claim(TEMP_MAIL, rf"/(?:api|admin|user_api|open_api|external|telegram){_REST}|/health_check"),
)
