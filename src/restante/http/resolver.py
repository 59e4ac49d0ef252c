"""Who answers a path: one rule set for all dialects, decided before anything of the request is read but its head.

A path that one dialect owns is answered by it whatever credentials came; on the few shared ones the credential decides
(the Mail API's own header, then a TrekMail bearer, then any other bearer, then the path's default owner).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from restante.http.dialects import Dialect
from restante.http.ownership import CLAIMS, DIALECTS, INSTANCE, MAIL_API, MAILTRIGGER, TREKMAIL, Claim

MAIL_API_HEADER = b"x-mailapi-token"
_EXAMPLES = {"email": "someone@example.test", "domain": "example.test"}


@dataclass(frozen=True, slots=True)
class Owner:
    """The outcome: a dialect's name or ``instance``; ``is_shared`` when another credential would change it."""

    name: str
    is_shared: bool


class Resolver:
    """The ownership table compiled to one expression, checked against the routes that there are."""

    def __init__(self, dialects: Iterable[Dialect], claims: tuple[Claim, ...] = CLAIMS) -> None:
        """Raises ``ValueError`` when a route lies outside its dialect's lines or two dialects have the same route."""
        self._claims = claims
        pattern = "|".join(f"(?P<c{number}>{claim.pattern})" for number, claim in enumerate(claims))
        self._match = re.compile(f"(?:{pattern})\\Z", re.DOTALL).match
        self._owners = {f"c{number}": Owner(claim.owner, claim.is_shared) for number, claim in enumerate(claims)}
        self._check(list(dialects))

    def owner(self, path: str, headers: Mapping[bytes, bytes]) -> Owner:
        """Who answers ``path`` (decoded, as ``normalise`` gives it). What nobody claims is the instance's 404."""
        found = self._match(path)
        if found is None:
            return Owner(INSTANCE, False)
        owner = self._owners[found.lastgroup or ""]
        return Owner(by_credential(headers, owner.name), True) if owner.is_shared else owner

    def _check(self, dialects: list[Dialect]) -> None:
        seen: dict[tuple[str, str], str] = {}
        for dialect in dialects:
            if dialect.name not in DIALECTS:
                raise ValueError(f"{dialect.name} is not in the ownership table")
            for route in dialect.router.routes:
                path = example(route.path)
                owner = self.owner(path, {})
                if owner.name != dialect.name and not owner.is_shared:
                    raise ValueError(f"{dialect.name} registers {route.path}, which belongs to {owner.name}")
                other = seen.setdefault((route.method, re.sub(r"\{[^}]*\}", "{}", route.path)), dialect.name)
                if other != dialect.name and not owner.is_shared:
                    raise ValueError(f"{dialect.name} and {other} both register {route.method} {route.path}")


def by_credential(headers: Mapping[bytes, bytes], default: str) -> str:
    """The dialect that a request's credential belongs to, on a shared path."""
    if MAIL_API_HEADER in headers:
        return MAIL_API
    scheme, _, credential = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() != b"bearer":
        return default
    return TREKMAIL if credential.strip().startswith(b"tm_") else MAILTRIGGER


def normalise(path: str) -> str:
    """The path as routes have it: without trailing slashes. Nothing is ever redirected (clients drop bodies then)."""
    return path.rstrip("/") or "/"


def example(path: str) -> str:
    """A path that a route's template matches."""

    def fill(found: re.Match[str]) -> str:
        return _EXAMPLES.get(found[1], "7")

    return re.sub(r"\{(\w+)(?::\w+)?\}", fill, path)
