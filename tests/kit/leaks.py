"""What sessions leave behind: objects still alive, and those that only the collector finds."""

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator


def _is_ours(thing: object) -> bool:
    return type(thing).__module__.split(".")[0] == "nginy"


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
