"""Ids: in order, never twice, whatever process made them."""

import os
import uuid

from restante import ids


def test_uuids_are_of_version_7_and_in_order() -> None:
    made = [ids.new_uuid() for _ in range(2_000)]
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert len({one.int & (1 << 62) - 1 for one in made}) == len(made)


def test_receipt_ids_are_uuids_too() -> None:
    before, receipt, after = ids.new_uuid(), ids.new_receipt_id(), ids.new_uuid()
    assert before.hex < receipt < after.hex


def test_a_forked_process_takes_randomness_of_its_own() -> None:
    ids.new_uuid()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, ids.new_uuid().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    theirs, ours = os.read(reading, 16), ids.new_uuid().bytes
    os.close(reading)
    os.close(writing)
    assert theirs[8:] != ours[8:]
