"""The page for browsers at `/`: collected by `front.py`, written as HTML by `document.py`."""
