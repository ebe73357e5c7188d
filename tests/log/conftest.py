"""The fixture of those tests that look at lines of an error log."""

import pytest

from kit.error_logs import error_log_in


@pytest.fixture
def error_log(tmp_path):
    with error_log_in(tmp_path) as opened:
        yield opened
