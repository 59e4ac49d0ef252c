"""``restante secret``: the key that every stored secret is sealed with."""

import click

from restante.cli import output
from restante.cli.running import Call, common, example


@click.group()
def secret() -> None:
    """The instance secret: DATA_DIR/secret.key, or RESTANTE_SECRET_KEY."""


@secret.command(epilog=example("restante secret rotate"))
@common
def rotate(call: Call) -> None:
    """Make a new key and seal every stored secret with it."""
    done = call.run(lambda link: link.call("secret.rotate"))
    if call.json:
        output.as_json(done)
    else:
        print(f"key {done['key_id']} is in use; {done['resealed']} secrets were sealed anew")


@secret.command(epilog=example("restante secret reset"))
@common
def reset(call: Call) -> None:
    """Give up what a lost secret sealed: a new secret, new signing keys. Their DNS records change."""
    done = call.run(lambda link: link.call("secret.reset"), gives_up_keys=True)
    if call.json:
        output.as_json(done)
    else:
        print(
            f"key {done['key_id']} is in use; {done['new_keys']} domains have new signing keys: publish their records"
        )
