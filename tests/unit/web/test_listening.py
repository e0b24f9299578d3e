"""Where our servers listen."""

import pytest

from fmbseg.store import StoreError
from fmbseg.web.listening import listening

HOST = "127.0.0.1"


def test_it_listens_on_loopback_on_the_first_port_that_is_free():
    with listening(HOST, (0,)) as first:
        host, port = first.getsockname()
        assert host == HOST
        with listening(HOST, (port, 0)) as second:
            assert second.getsockname()[1] != port
        with pytest.raises(StoreError, match=f"{port} is taken"):
            listening(HOST, (port,))
    with listening(HOST, (port, 0)) as again:
        assert again.getsockname()[1] == port
    with pytest.raises(StoreError, match=r"192\.0\.2\.1 port 0: "):
        listening("192.0.2.1", (0,))
