"""What a worker reads is known when it dies."""

import multiprocessing
import os

from fastnst.data.workers import Reading, note


def test_a_note_is_read_by_its_process():
    reading = Reading(2)
    assert reading.of(os.getpid()) is None
    note("elsewhere.jpg")  # not in a worker: no effect
    with multiprocessing.get_context("fork").Pool(1, reading.start_worker, (1,)) as pool:
        pool.apply(note, ("x" * 9000,))
        process = pool.apply(os.getpid)
        pool.apply(note, ("a b ü.jpg",))
        with multiprocessing.get_context("fork").Pool(1, reading.start_worker, (0, 0)) as other:  # another loader's
            other.apply(note, ("painting.jpg",))
    assert reading.of(process) == "a b ü.jpg"
