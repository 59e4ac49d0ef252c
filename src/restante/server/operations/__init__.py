"""What commands can ask of a runtime, through the control socket or in their own process: one literal table.

Each operation takes plain values and returns plain values with the field names of ``docs/cli.md``; whoever may call it
is the operator (the socket belongs to the server's user).
"""

from restante.server.control import Operation
from restante.server.operations import (
    accounts,
    domains,
    events,
    instance,
    mailboxes,
    messages,
    submission,
    tokens,
    transport,
)

OPERATIONS: dict[str, Operation] = {
    "account.add": accounts.account_add,
    "account.list": accounts.account_list,
    "account.quota": accounts.account_quota,
    "account.resume": accounts.account_resume,
    "account.suspend": accounts.account_suspend,
    "alias.add": mailboxes.alias_add,
    "alias.list": mailboxes.alias_list,
    "alias.remove": mailboxes.alias_remove,
    "backup.begin": instance.backup_begin,
    "backup.end": instance.backup_end,
    "domain.add": domains.domain_add,
    "domain.approve": domains.domain_approve,
    "domain.list": domains.domain_list,
    "domain.remove": domains.domain_remove,
    "domain.verify": domains.domain_verify,
    "event.list": events.event_list,
    "export.message": transport.export_message,
    "folder.list": transport.folder_list,
    "import.begin": transport.import_begin,
    "import.message": transport.import_message,
    "mailbox.add": mailboxes.mailbox_add,
    "mailbox.list": mailboxes.mailbox_list,
    "mailbox.password": mailboxes.mailbox_password,
    "mailbox.quota": mailboxes.mailbox_quota,
    "mailbox.remove": mailboxes.mailbox_remove,
    "message.list": messages.message_list,
    "message.raw": messages.message_raw,
    "message.show": messages.message_show,
    "queue.drop": submission.queue_drop,
    "queue.hold": submission.queue_hold,
    "queue.list": submission.queue_list,
    "queue.release": submission.queue_release,
    "queue.retry": submission.queue_retry,
    "queue.show": submission.queue_show,
    "secret.reset": instance.secret_reset,
    "secret.rotate": instance.secret_rotate,
    "send": submission.send,
    "send.raw": submission.send_raw,
    "status": instance.status,
    "token.create": tokens.token_create,
    "token.list": tokens.token_list,
    "token.revoke": tokens.token_revoke,
    "verify": instance.verify,
}
