"""What an operator has set, on its way to a worker."""

import json

import pytest
from nginy.backend.override import Override, parse
from nginy.wire.agent import Mode


@pytest.mark.parametrize(
    "override",
    [Override(), Override(Mode.DRAIN, 3, 0, "deploy", "uid 0"), Override(max_conns=7)],
)
def test_it_arrives_as_it_left(override: Override) -> None:
    assert parse(json.loads(json.dumps(override.to_json()))) == override


@pytest.mark.parametrize("members", [{"mode": "sleep"}, {"weight": "3"}])
def test_what_is_none_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"sleep|3"):
        parse(members)
