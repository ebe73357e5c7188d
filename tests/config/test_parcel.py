"""A configuration comes out of a parcel as it went in, whatever its size, or not at all."""

import io
import pathlib
import pickle

import pytest
from nginy.config import parcel
from nginy.config.load import load
from nginy.config.parcel import read_parcel, write_parcel
from nginy.config.schema import Config

EXAMPLE = pathlib.Path(parcel.__file__).parents[2] / "etc" / "nginy.yml"


def configuration(tmp_path: pathlib.Path, *counts: int) -> Config:
    """Return one with an upstream of that many backends for each count, and a listener for each."""
    backends = [[f"10.{n}.{k >> 8}.{k & 255}:80" for k in range(c)] for n, c in enumerate(counts)]
    upstreams = "".join(
        f"  u{n}: {{backends: [{', '.join(each)}]}}\n" for n, each in enumerate(backends)
    )
    listeners = "".join(
        f"  - {{listen: 127.0.0.1:{n + 1}, proxy_pass: u{n}}}\n" for n in range(len(counts))
    )
    path = tmp_path / "nginy.yml"
    path.write_text(f"upstreams:\n{upstreams}listeners:\n{listeners}")
    return load(str(path), {})


def packed(config: Config, piece_items: int = parcel.PIECE_ITEMS) -> bytes:
    file = io.BytesIO()
    write_parcel(config, file, piece_items)
    return file.getvalue()


def steps_of(data: bytes) -> tuple[int, Config]:
    steps = read_parcel(io.BytesIO(data))
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return count, end.value
        count += 1


@pytest.mark.parametrize("counts", [(1,), (1, 2, 3), (7, 1, 20, 1), (20, 20), (5,) * 8])
def test_it_comes_out_as_it_went_in(tmp_path: pathlib.Path, counts: tuple[int, ...]) -> None:
    config = configuration(tmp_path, *counts)
    for items in (1, 4, 10, 500):
        steps, result = steps_of(packed(config, items))
        assert result == config
        assert list(result.upstreams) == list(config.upstreams)
        assert steps == (sum(counts) + 2 * len(counts)) // items + 1


def test_the_example_comes_out_as_it_went_in() -> None:
    config = load(str(EXAMPLE), {})
    assert steps_of(packed(config))[1] == config


def test_a_part_of_one_is_an_error(tmp_path: pathlib.Path) -> None:
    data = packed(configuration(tmp_path, 2, 1))
    for length in range(len(data)):
        with pytest.raises((EOFError, pickle.UnpicklingError)):
            steps_of(data[:length])
