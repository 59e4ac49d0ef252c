"""Endpoint 11: the token of the call itself."""

from restante.api.mail_api import auth, shapes
from restante.http.answers import Answer
from restante.http.calls import Call


async def get_me(call: Call) -> Answer:
    """Show the token that this call was made with. This answer alone has no ``success``."""
    caller = await auth.require(call)
    token = caller.token
    info = shapes.TokenInfo(
        id=token.id,
        token_prefix=token.prefix,
        token_type=token.kind,
        email=None if token.kind == "admin" else caller.principal.address,
        name=token.name,
        is_active=token.is_active,
        created_at=shapes.moment(token.created_at),
        last_used_at=shapes.moment(token.last_used_at or call.rt.clock.now()),
        expires_at=None if token.expires_at is None else shapes.moment(token.expires_at),
    )
    return shapes.answer(info)
