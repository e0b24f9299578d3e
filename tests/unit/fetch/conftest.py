import pytest

from fmbseg.fetch import http, transfer


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a test; `ATTEMPTS`, which `get` sets, is put back behind it."""
    monkeypatch.setattr(http, "ATTEMPTS", http.ATTEMPTS)
    monkeypatch.setattr(http, "BACK_OFF_S", 0.01)
    monkeypatch.setattr(transfer, "TIMEOUTS_S", (2.0, 2.0))
