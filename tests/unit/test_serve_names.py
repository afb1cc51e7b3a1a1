"""Under which names a service may be asked that `tuneyard serve` has put together."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.api.auth import AuthSettings
from service.server import serve
from service.server.settings import ServeSettings
from service.store import Store


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.2", "127.0.0.2"), ("ip6-loopback", "ip6-loopback"), ("::1", "[::1]")]
)
def test_without_auth_it_is_asked_under_the_name_that_it_listens_on(tmp_path: Path, host: str, shown: str) -> None:
    settings = ServeSettings(tmp_path, host=host)
    store = Store.open(settings.database_url)
    service = serve._service(settings, AuthSettings("none"), serve._parts(settings, store))
    with TestClient(create_app(service), base_url=f"http://{shown}:8700") as client:
        assert client.get("/api/v1/whoami").status_code == 200
        assert client.get("/api/v1/whoami", headers={"Host": "evil.example.org"}).status_code == 403
    service.close()
    store.close()
