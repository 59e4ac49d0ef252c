"""``restante verify``."""

from typing import Any

import click

from restante.cli import output
from restante.cli.link import Link
from restante.cli.running import FAILED, Call, common, example


@click.command(epilog=example("restante verify\nrestante verify --repair --json"))
@click.option("--repair", is_flag=True, help="Rebuild counters, rows and the search index from the bytes.")
@common
def verify(call: Call, repair: bool) -> None:
    """Check everything that is stored: bytes, hashes, rows, counters, search index; exit code 1 when some are wrong."""
    report = call.run(lambda link: _verify(link, call, repair))
    if call.json:
        output.as_json(report)
    else:
        _print(report)
    if not report["ok"]:
        raise click.exceptions.Exit(FAILED)


async def _verify(link: Link, call: Call, repair: bool) -> dict[str, Any]:
    progress = output.Progress("verifying", quiet=call.json)
    report: dict[str, Any] = {}
    async for item, is_last in link.stream("verify", repair=repair):
        if is_last:
            report = item
        else:
            progress.show(item["done"], item["total"], item["phase"])
    progress.end()
    return report


def _print(report: dict[str, Any]) -> None:
    print(
        f"{report['messages']} messages, {report['contents']} contents ({output.size(report['content_bytes'])}),"
        f" {report['blobs']} blobs in {report['accounts']} accounts"
    )
    for problem in report["problems"]:
        done = "repaired" if problem["repaired"] else "not repaired"
        print(f"{problem['kind']}: account {problem['account_id']}, {output.cell(problem['what'], None)} ({done})")
    if report["busy_folders"]:
        print(f"{report['busy_folders']} folders kept changing; their counters were not compared")
    if report["ok"]:
        print("all is well" if not report["repaired_count"] else f"{report['repaired_count']} problems repaired")
    else:
        print(f"{report['problem_count']} problems, {report['repaired_count']} repaired")
