"""Objects that sessions leave behind, and a process that has no descriptor left."""

import contextlib
import errno
import gc
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator


def _is_ours(thing: object) -> bool:
    # A C type may have a descriptor in the place of its module's name.
    return str(type(thing).__module__).split(".")[0] == "nginy"


def alive() -> Counter[str]:
    """Count the living objects of nginy's classes, by class."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if _is_ours(thing))


@contextlib.contextmanager
def no_garbage() -> Iterator[None]:
    """Fail if the block leaves objects of nginy that refer to each other in a circle.

    Such objects, and the memory and descriptors that hang on them, stay until the cyclic collector
    comes by.
    """
    gc.collect()
    gc.garbage.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        ours = Counter(type(thing).__name__ for thing in gc.garbage if _is_ours(thing))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not ours, f"only the cyclic collector finds {ours}"


@contextlib.contextmanager
def no_descriptor_left(but: int = 0) -> Iterator[Callable[[], None]]:
    """Use up all descriptors that the process may have, except this many, for the block.

    What the block gets frees one more each time it is called.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken: list[int] = []
    # Without a gap below the highest, those to be left, or freed later, must be above it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3 + but, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        assert _is_exhausted()
        for _ in range(but):
            os.close(taken.pop())
        yield lambda: os.close(taken.pop())
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_exhausted() -> bool:
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno == errno.EMFILE
    return False
