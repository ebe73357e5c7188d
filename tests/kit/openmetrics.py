"""A strict reader of what Prometheus scrapes: it refuses what the format does not permit.

Source: OpenMetrics 1.0 and the text format 0.0.4, for counters, gauges and histograms alone.
"""

import math
import re
from dataclasses import dataclass, field

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
META = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=[a-z]))?')
SUFFIXES = {
    "counter": {"_total"},
    "gauge": {""},
    "unknown": {""},
    "histogram": {"_bucket", "_sum", "_count"},
}

Labels = tuple[tuple[str, str], ...]


@dataclass
class Read:
    """A family."""

    kind: str = ""
    help: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def labels_of(text: str) -> Labels:
    found, end = [], 0
    for match in LABEL.finditer(text):
        assert match.start() == end, f"labels are not understood: {text}"
        found.append((match[1], re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])))
        end = match.end()
    assert end == len(text), f"labels are not understood: {text}"
    assert len({name for name, _ in found}) == len(found), f"a label comes twice: {text}"
    return tuple(found)


def read(text: str, *, is_openmetrics: bool) -> dict[str, Read]:
    """Return the families of a text, or fail."""
    families: dict[str, Read] = {}
    assert text.endswith("\n")
    lines = text.splitlines()
    if is_openmetrics:
        assert lines.pop() == "# EOF"
    current = ""
    for line in lines:
        assert line, "an empty line"
        if line.startswith("#"):
            meta = META.fullmatch(line)
            assert meta, line
            if meta[2] != current:
                assert meta[2] not in families, f"{meta[2]} is not in one piece"
                families[current := meta[2]] = Read()
            family = families[current]
            assert not family.samples, "a sample stands before its type"
            assert not (family.kind if meta[1] == "TYPE" else family.help), line
            if meta[1] == "TYPE":
                assert meta[3] in SUFFIXES, line
                family.kind = meta[3]
            else:
                family.help = meta[3]
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        _add(families[current], current, sample, is_openmetrics)
    for name, family in families.items():
        assert family.kind, f"{name} has no type"
        assert family.help, f"{name} has no help"
        if family.kind == "histogram":
            _check_histogram(name, family)
    return families


def _add(family: Read, name: str, sample: re.Match[str], is_openmetrics: bool) -> None:
    suffixes = SUFFIXES[family.kind]
    if family.kind == "counter" and not is_openmetrics:
        assert name.endswith("_total")
        suffixes = {""}
    assert sample[1] in {name + suffix for suffix in suffixes}, sample[0]
    key = sample[1], labels_of(sample[2] or "")
    assert key not in family.samples, f"{key} comes twice"
    value = float(sample[3])
    assert math.isfinite(value)
    assert value >= 0
    family.samples[key] = value


def _check_histogram(name: str, family: Read) -> None:
    rows: dict[Labels, list[tuple[float, float]]] = {}
    for (sample, labels), value in family.samples.items():
        if sample == f"{name}_bucket":
            bound = float(dict(labels)["le"].replace("+Inf", "inf"))
            rows.setdefault(tuple(p for p in labels if p[0] != "le"), []).append((bound, value))
    for labels, buckets in rows.items():
        assert buckets == sorted(buckets), "bounds, or counts, fall"
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1][0] == math.inf
        assert family.samples[f"{name}_count", labels] == buckets[-1][1]
        assert (f"{name}_sum", labels) in family.samples


def value(families: dict[str, Read], name: str, **labels: str) -> float:
    """Return the one sample of a name with these labels."""
    found = [
        each
        for family in families.values()
        for (sample, pairs), each in family.samples.items()
        if sample == name and labels.items() <= dict(pairs).items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]
