"""Who is answered: this machine's own page, and nobody else."""

import pytest
from starlette.testclient import TestClient

from serve.conftest import ADDRESS, CHANGES, keys
from tubelet.errors import UsageError
from tubelet.serve.guard import AccessPolicy, is_loopback
from tubelet.serve.server import policy_for

TOKEN = "a-token-of-this-test"


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:9", "[::1]:8765", "LOCALHOST"])
def test_own_names_are_answered(served, out, host):
    site = served(out, policy=policy_for("127.0.0.1", token=None, names=()))
    assert site.get("/api/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "192.168.0.7",
        "0.0.0.0",
        "",
        "127.0.0.1:8765:1",
        "localhost/..",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/state", "/static/app.js", "/media/0"])
def test_other_names_are_not(served, out, host, path):
    site = served(out, policy=policy_for("127.0.0.1", token=None, names=()))
    refused = site.get(path, headers={"host": host})
    assert refused.status_code == 421
    assert "--allow-host" in refused.json()["error"]


def test_a_named_host_is_answered(served, out):
    site = served(out, policy=policy_for("127.0.0.1", token=None, names=("box.lan",)))
    assert site.get("/api/state", headers={"host": "box.lan:8765"}).status_code == 200


def test_addresses_are_answered_beyond_loopback_but_names_are_not(served, out):
    site = served(out, policy=policy_for("0.0.0.0", token=TOKEN, names=()))
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert site.get("/api/state", headers={"host": "10.0.0.4:1", **bearer}).status_code == 200
    assert site.get("/api/state", headers={"host": "evil.example", **bearer}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "video"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/videos", "/static/app.js"])
def test_other_sites_are_not_answered(site, headers, path):
    assert site.get(path, headers=headers).status_code == 403


def test_a_link_from_elsewhere_may_open_the_page_and_only_the_page(site):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    link["sec-fetch-dest"] = "document"
    assert site.get("/", headers=link).status_code == 200
    assert site.get("/api/videos", headers=link).status_code == 403


@pytest.mark.parametrize("path", ["/api/export", "/api/uploads", "/api/videos/x/preview"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"origin": "https://evil.example", **CHANGES},
        {"origin": "null", **CHANGES},
        {"sec-fetch-site": "cross-site", **CHANGES},
    ],
)
def test_nothing_is_changed_for_another_site(site, path, headers):
    assert site.post(path, headers=headers, content=b"{}").status_code == 403


def test_the_own_page_may_change_things(site):
    key = keys(site)["first"]
    own = {"origin": ADDRESS, "sec-fetch-site": "same-origin", **CHANGES}
    assert site.post("/api/export", headers=own, json={"rows": [[key, 0]]}).status_code == 200


def test_loopback_needs_no_token_and_everything_else_does():
    assert policy_for("localhost", token=None, names=()).token is None
    assert policy_for("127.0.0.1", token=None, names=()).token is None
    assert policy_for("::1", token=None, names=()).token is None
    first, second = (policy_for("0.0.0.0", token=None, names=()).token for _ in range(2))
    assert first != second
    assert min(len(str(first)), len(str(second))) >= 32
    with pytest.raises(UsageError, match="at least 8"):
        policy_for("0.0.0.0", token="short", names=())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_what_is_not_loopback(host):
    assert not is_loopback(host)


@pytest.fixture
def guarded(served, out):
    return served(out, policy=policy_for("0.0.0.0", token=TOKEN, names=()))


PATHS = ["/", "/api/state", "/api/videos", "/static/app.js", "/media/0", "/nowhere", "/api/uploads"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "wrong-token-of-this", TOKEN[:-1], TOKEN + "x", "töken"])
def test_without_the_token_there_is_nothing(guarded, path, token):
    assert guarded.get(path, params={"token": token}).status_code == 401
    bearer = {"authorization": f"Bearer {token}".encode()}
    assert guarded.get(path, headers=bearer).status_code == 401
    cookie = {"cookie": f"tubelet-8765={token}".encode()}
    assert guarded.get(path, headers=cookie).status_code == 401


def test_the_first_visit_leaves_a_cookie_that_is_not_the_token(guarded):
    welcome = guarded.get("/", params={"token": TOKEN})
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert TOKEN not in welcome.text
    assert guarded.get("/api/state").status_code == 200  # the client keeps its cookies


def test_a_token_in_another_place_is_none(guarded):
    assert guarded.get("/api/state", params={"token": TOKEN}).status_code == 401
    assert guarded.post("/", params={"token": TOKEN}, headers=CHANGES).status_code == 401


@pytest.mark.parametrize("path", ["/", "/api/state", "/static/app.js", "/nowhere", "/media/0"])
def test_every_answer_carries_the_policy(site, path):
    headers = site.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


def test_refusals_carry_it_too(site):
    refused = site.get("/", headers={"host": "evil.example"})
    assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_no_api_document_that_loads_scripts_from_elsewhere(site):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert site.get(path).status_code == 404


def test_a_policy_without_names_answers_loopback_addresses_only(out):
    from tubelet.serve.app import SiteSettings, create_app

    with TestClient(
        create_app(out, SiteSettings(build=None, policy=AccessPolicy())), base_url=ADDRESS
    ) as c:
        assert c.get("/api/state").status_code == 200
        assert c.get("/api/state", headers={"host": "localhost"}).status_code == 421
