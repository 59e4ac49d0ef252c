"""Assembly: a data directory that is not whole."""

import pytest

from restante.config import Config
from restante.core import accounts, domains
from restante.errors import Conflict
from restante.server import assemble
from restante.services import domains as service


async def test_a_lost_instance_secret_is_no_new_one(config: Config) -> None:
    """Where nothing is sealed a new one is made; else it is asked for, and nothing is changed."""
    file = config.data_dir / "secret.key"
    async with assemble.open_runtime(config) as rt:
        account = await rt.db.write(accounts.create, "red", rt.clock.now())
    file.unlink()
    async with assemble.open_runtime(config) as rt:
        domain = await service.add(rt, account.id, "red.example", True)
        (before,) = await rt.db.read(domains.list_keys, account.id, domain.id)
    file.rename(kept := file.with_name("kept"))
    for run in (lambda: assemble.open_runtime(config).__aenter__(), lambda: assemble.run_server(config, print)):
        with pytest.raises(
            Conflict, match=r"secret\.key is missing, and 1 signing keys .* `restante secret reset`"
        ) as lost:
            await run()
        assert lost.value.code == "secret_key_lost"
        assert not file.exists()
    kept.rename(file)
    with pytest.raises(Conflict, match="is there"):
        await assemble.open_runtime(config, gives_up_keys=True).__aenter__()
    async with assemble.open_runtime(config) as rt:
        assert await rt.db.read(domains.list_keys, account.id, domain.id) == [before]
        assert await service.replace_lost_keys(rt) == 0
    file.unlink()
    async with assemble.open_runtime(config, gives_up_keys=True) as rt:
        assert await service.replace_lost_keys(rt) == 1
        (after,) = await rt.db.read(domains.list_keys, account.id, domain.id)
        assert rt.vault.open_text(after.private_key, service.key_purpose("red.example", after.selector))
        assert after.public_key != before.public_key
