import time

import pytest
from nginy.text.times import TimeText

SECOND = 1795458901  # 2026-11-23 18:35:01 UTC


@pytest.fixture
def zone(monkeypatch):
    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def test_each_form_has_its_own_spelling_of_the_same_second(zone):
    zone("CET-1")
    text = TimeText(SECOND)
    assert text.error_log == "2026/11/23 19:35:01"
    assert text.local == "23/Nov/2026:19:35:01 +0100"
    assert text.iso8601 == "2026-11-23T19:35:01+01:00"
    assert text.syslog == "Nov 23 19:35:01"


def test_a_zone_west_of_greenwich_with_half_an_hour_keeps_its_sign(zone):
    zone("NST3:30")
    text = TimeText(SECOND)
    assert text.local == "23/Nov/2026:15:05:01 -0330"
    assert text.iso8601.endswith("T15:05:01-03:30")


def test_syslog_pads_a_short_day_with_a_space(zone):
    zone("UTC")
    assert TimeText(0).syslog == "Jan  1 00:00:00"


def test_the_texts_are_made_once_a_second(zone):
    zone("UTC")
    text = TimeText(SECOND + 0.1)
    before = text.error_log
    text.update(SECOND + 0.9)
    assert text.error_log is before
    text.update(SECOND + 1)
    assert text.error_log == "2026/11/23 18:35:02"


def test_a_clock_set_back_is_followed(zone):
    zone("UTC")
    text = TimeText(SECOND)
    text.update(SECOND - 3600)
    assert text.error_log == "2026/11/23 17:35:01"
