"""`/metrics` for Prometheus: collected by `measured.py`, written as text by `exposition.py`."""
