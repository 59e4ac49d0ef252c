"""``restante backup`` and ``restante restore``."""

from pathlib import Path
from typing import Any

import click

from restante.cli import output
from restante.cli.link import Link
from restante.cli.running import Call, common, example


@click.command(
    epilog=example("restante backup /srv/backup/mail.tar.zst\nrestante backup /srv/backup/today --with-secret")
)
@click.argument("target", metavar="FILE|DIR", type=click.Path(path_type=Path))
@click.option("--with-secret", is_flag=True, help="Put secret.key in it too: keep the backup as safe as the server.")
@common
def backup(call: Call, target: Path, with_secret: bool) -> None:
    """Copy everything to a new FILE (.tar or .tar.zst) or DIR, consistent while the server runs."""
    report = call.run(lambda link: _backup(link, call, target.absolute(), with_secret))
    if call.json:
        output.as_json(report)
        return
    print(f"backup of {output.size(report['size_bytes'])} in {report['path']} ({report['blobs']} blobs)")
    if not report["secret"]:
        print("secret.key is not in it: keep a copy elsewhere (or use --with-secret)")
    if call.load().storage.blobs == "s3":
        print("large messages are not in it: they are in the bucket, whose copies are yours to keep")


async def _backup(link: Link, call: Call, target: Path, with_secret: bool) -> dict[str, Any]:
    import asyncio
    from datetime import UTC, datetime

    from restante import vault
    from restante.errors import NotFound
    from restante.services import backup as service

    data_dir = call.load().data_dir
    secret = data_dir / vault.FILE
    if with_secret and not secret.is_file():
        raise NotFound(f"there is no {secret} (the secret comes from {vault.VARIABLE})", code="secret_not_found")
    progress = output.Progress("copying", quiet=call.json)
    sink = await asyncio.to_thread(service.open_sink, target)
    made: dict[str, Any] = {}
    try:
        blobs = service.BlobCopy(data_dir, sink)
        await asyncio.to_thread(blobs.run, progress.show)
        async for item, is_last in link.stream("backup.begin"):
            if is_last:
                made = item
            else:
                progress.show(item["done"], item["total"], item["phase"])
        digest = await asyncio.to_thread(sink.add, service.DATABASE, Path(made["path"]))
        await asyncio.to_thread(blobs.run, progress.show)
        if with_secret:
            await asyncio.to_thread(sink.add, vault.FILE, secret)
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        manifest = service.manifest(digest, made["size_bytes"], blobs, with_secret, moment)
        sink.add_bytes(service.MANIFEST, service.encode_manifest(manifest))
        await asyncio.to_thread(sink.finish)
    except BaseException:
        sink.abandon()
        raise
    finally:
        progress.end()
        if made:
            await link.call("backup.end", name=made["name"])
    return {
        "path": str(target),
        "created_at": manifest["created_at"],
        "size_bytes": made["size_bytes"] + blobs.size_bytes,
        "blobs": blobs.count,
        "secret": with_secret,
    }


@click.command(epilog=example("restante restore /srv/backup/mail.tar.zst --data-dir ./restored"))
@click.argument("source", metavar="FILE|DIR", type=click.Path(path_type=Path))
@common
def restore(call: Call, source: Path) -> None:
    """Make a new data directory from a backup; checks everything and builds the search index anew."""
    from restante.errors import RestanteError

    try:
        report = _restore(call, source)
    except RestanteError as error:
        call.fail_with(error)
    if call.json:
        output.as_json(report)
        return
    print(f"restored {report['data_dir']} as of {report['created_at']}")
    if not report["secret"] and not call.load().secret_key:
        print(f"secret.key was not in the backup: put yours into {report['data_dir']} before you start the server,")
        print("or stored secrets (signing keys) cannot be read")


def _restore(call: Call, source: Path) -> dict[str, Any]:
    import asyncio

    from restante import vault
    from restante.services import backup as service

    config = call.configured()
    progress = output.Progress("restoring", quiet=call.json)
    manifest = service.restore(source, config.data_dir, progress.show, config.storage.database_url)
    progress.end()
    asyncio.run(_settle(config))
    return {
        "data_dir": str(config.data_dir),
        "created_at": manifest["created_at"],
        "blobs": manifest["blobs"],
        "size_bytes": manifest["database"]["size_bytes"] + manifest["blob_bytes"],
        "secret": (config.data_dir / vault.FILE).exists(),
    }


async def _settle(config: Any) -> None:
    """Open the store once: new UIDVALIDITY for every folder, and the search index made from the messages.

    Without the instance secret, which may still have to be put there.
    """
    from restante.clock import SystemClock, to_micros
    from restante.core import accounts, verification
    from restante.server.assemble import open_database
    from restante.storage.signals import Signals

    async with open_database(config, Signals()) as db:
        value = to_micros(SystemClock().now()) // 1_000_000
        for account in await db.read(accounts.list_accounts):
            await db.write(verification.renew_uid_validity, account.id, value)
