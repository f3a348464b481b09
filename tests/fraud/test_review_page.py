"""The analysts' page without a browser: who gets in, whose forms count, what is refused."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from kibubu.review.v1 import review_pb2
from prometheus_client import CollectorRegistry

from cluster.certificates import ensure_certificates, tls_paths
from fraud.review_page import pages, pictures
from fraud.review_page.analysts import AnalystError, new_token, read_analysts, remove_analyst, whose
from fraud.review_page.app import BODY_BYTES_MAX, ReviewApp
from fraud.review_page.calibration import Calibration, calibration_of
from fraud.review_page.config import ConfigError, PageConfig, load_config
from fraud.review_page.logins import COOKIE, LOGIN_S, LOGINS_MAX, TRIES_MAX, TRIES_WINDOW_S, Login, Logins

HOST = "127.0.0.1:7171"
URL = f"http://{HOST}"
SELF = {"origin": URL}
WHO = Login("amina", "form-token", 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    ensure_certificates(folder, [("review", "review")])
    return folder


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> PageConfig:
    tls = tls_paths(folder, "review", "review")
    file = tmp_path / "review.toml"
    file.write_text(
        f'nodes = ["127.0.0.1:1"]\nanalysts_file = "analysts.json"\n[listen]\nhttp = "{HOST}"\n'
        f'metrics = "127.0.0.1:7173"\n[tls]\nca = "{tls.ca}"\ncert = "{tls.cert}"\nkey = "{tls.key}"\n',
        encoding="utf-8",
    )
    return load_config(file)


@pytest.fixture
async def browser(config: PageConfig) -> AsyncIterator[httpx.AsyncClient]:
    app = ReviewApp(config, CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=URL) as client:
        yield client


async def log_in(browser: httpx.AsyncClient, token: str) -> httpx.Response:
    return await browser.post("/login", data={"token": token}, headers=SELF)


async def test_a_token_opens_and_its_removal_closes(browser: httpx.AsyncClient, config: PageConfig) -> None:
    token = new_token(config.analysts_file, "amina")
    inside = await browser.get("/")
    assert (inside.status_code, inside.headers["location"]) == (303, "/login")
    answer = await log_in(browser, token)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert "Secure" not in cookie  # plain HTTP on loopback
    assert token not in cookie
    assert "location" not in (await browser.get("/elsewhere")).headers  # logged in: 404 and no way to the login
    remove_analyst(config.analysts_file, "amina")
    assert (await browser.get("/elsewhere")).headers["location"] == "/login"


async def test_a_wrong_token_is_counted_and_then_nobody_gets_in(browser: httpx.AsyncClient, config: PageConfig) -> None:
    token = new_token(config.analysts_file, "amina")
    for _ in range(TRIES_MAX):
        assert (await log_in(browser, "wrong")).status_code == 401
    assert (await log_in(browser, token)).status_code == 429


async def test_only_own_forms_count(browser: httpx.AsyncClient, config: PageConfig) -> None:
    await log_in(browser, new_token(config.analysts_file, "amina"))
    path, form = "/payments/" + "01" * 16, {"verdict": "release"}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        answer = await browser.post(path, data=form, headers=headers)
        assert (answer.status_code, "of another site" in answer.text) == (403, True)
    for wrong in ({}, {"form_token": "guessed"}):
        answer = await browser.post(path, data=form | wrong, headers=SELF)
        assert (answer.status_code, "not of this login" in answer.text) == (403, True)
    assert (await browser.post("/logout", headers=SELF)).status_code == 403


async def test_another_name_for_this_server_is_refused(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/login", headers={"host": "evil.example"})).status_code == 421


async def test_headers_forbid_scripts_frames_and_caches(browser: httpx.AsyncClient) -> None:
    headers = (await browser.get("/login")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/", b"", 405),
        ("POST", "/login", b"x" * (BODY_BYTES_MAX + 1), 413),
        ("POST", "/login", b"a=1&" * 20, 400),
        ("POST", "/login", b"\xff\xfe", 400),
        ("GET", "/payments/rubbish", b"", 303),
    ],
)
async def test_bad_requests(browser: httpx.AsyncClient, method: str, path: str, body: bytes, status: int) -> None:
    answer = await browser.request(method, path, content=body, headers=SELF)
    assert answer.status_code == status
    assert "Traceback" not in answer.text


async def test_inside_bad_ids_and_verdicts_name_the_rule(browser: httpx.AsyncClient, config: PageConfig) -> None:
    await log_in(browser, new_token(config.analysts_file, "amina"))
    assert "No held payment has this id" in (await browser.get("/payments/rubbish")).text
    page = await browser.get("/nowhere")
    form_token = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert form_token
    form = {"form_token": form_token[1], "verdict": "maybe"}
    answer = await browser.post("/payments/" + "01" * 16, data=form, headers=SELF)
    assert (answer.status_code, "must be release or refuse" in answer.text) == (400, True)
    long = form | {"verdict": "release", "comment": "x" * 501}
    assert (await browser.post("/payments/" + "01" * 16, data=long, headers=SELF)).status_code == 400
    out = await browser.post("/logout", data={"form_token": form_token[1]}, headers=SELF)
    assert out.headers["location"] == "/login"
    browser.cookies.set(COOKIE, "old")
    assert (await browser.get("/")).headers["location"] == "/login"


def test_logins_end_by_time_and_by_number() -> None:
    now = [0.0]
    logins = Logins(lambda: now[0])
    first = logins.begin("amina")
    assert logins.find(first)
    for _ in range(LOGINS_MAX):
        last = logins.begin("baraka")
    assert logins.find(first) is None
    now[0] = LOGIN_S
    assert logins.find(last) is None
    for _ in range(TRIES_MAX):
        assert logins.may_try()
        logins.wrong()
    assert not logins.may_try()
    now[0] += TRIES_WINDOW_S
    assert logins.may_try()


def test_tokens_are_kept_as_hashes_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "analysts.json"
    first, second = new_token(path, "amina"), new_token(path, "amina")
    analysts = read_analysts(path)
    assert (whose(analysts, first), whose(analysts, second), whose(analysts, "")) == ("", "amina", "")
    assert second not in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for wrong in ("", "x" * 21, "a\nb"):
        with pytest.raises(AnalystError, match="NAME: must be 1 to 20"):
            new_token(path, wrong)
    with pytest.raises(AnalystError, match="there is no analyst"):
        remove_analyst(path, "nobody")
    path.write_text(json.dumps({"amina": "short"}), encoding="utf-8")
    with pytest.raises(AnalystError, match="must be an object of names"):
        read_analysts(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace(HOST, "0.0.0.0:7171"), "listen.http: must be a loopback address"),
        (lambda text: text.replace('nodes = ["127.0.0.1:1"]', "nodes = []"), "nodes: must be a list"),
        (lambda text: text.replace(HOST, "nonsense"), "listen.http: must be host:port"),
        (lambda text: "behind_tls = 1\n" + text, "behind_tls: must be true or false"),
        (lambda text: text.replace("analysts_file", "analyst"), "analysts_file: must be a text"),
        (lambda text: text + "[", "review.toml"),
    ],
)
def test_a_wrong_configuration_names_its_key(config: PageConfig, change: Callable[[str], str], complaint: str) -> None:
    path = config.analysts_file.parent / "review.toml"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load_config(path)


def test_behind_a_proxy_it_may_listen_elsewhere(config: PageConfig) -> None:
    path = config.analysts_file.parent / "review.toml"
    text = path.read_text(encoding="utf-8").replace(HOST, "0.0.0.0:7171")
    path.write_text('behind_tls = true\nhost_names = ["review.example"]\n' + text, encoding="utf-8")
    assert load_config(path).host_names == ("0.0.0.0:7171", "review.example")


def held(**changes: Any) -> review_pb2.GetHeldPaymentResponse:
    party = review_pb2.Party(account_number=1, name="<b>Wanjiku</b>")
    payment = review_pb2.HeldPayment(
        payment_id=b"\1" * 16, state=review_pb2.REVIEW_STATE_WAITING, payer=party, payee=party, currency="KES",
        amount_minor=150_000, reasons=["payee_is_new", "rule_cap"], analysts_needed=2,
        opinions=[review_pb2.Opinion(verdict=review_pb2.VERDICT_REFUSE, analyst="<i>", comment="<script>")],
    )  # fmt: skip
    items = [
        review_pb2.HistoryItem(timestamp_ns=n * 10**9, amount_minor=n, is_debit=bool(n % 2), other_name="<x>")
        for n in (3, 2, 1)
    ]
    links = [
        review_pb2.Link(from_account=1, to_account=n, from_name="<y>", to_name="<z>", payments=1, amount_minor=n)
        for n in range(2, 9)
    ]
    return review_pb2.GetHeldPaymentResponse(payment=payment, payer_history=items, payee_history=[], links=links)


def test_what_people_wrote_is_never_markup() -> None:
    html = pages.payment(WHO, held(), "<u>")
    assert not re.search(r"<(b>W|i>|script|x>|y>|z>|u>)", html)
    assert "the payer has not paid this account lately" in html
    assert "the amount is above the cap" in html
    assert html.count("<svg") == 2
    assert "nothing yet" in html


def test_pictures_of_nothing_of_one_and_of_no_time_at_all() -> None:
    assert "nothing" in pictures.history([], "x")
    same = [review_pb2.HistoryItem(timestamp_ns=5, amount_minor=1, balance_after_minor=-1)] * 3
    for picture in (pictures.history(same, "x"), pictures.links(held().links[:1], 1, 2)):
        assert "nan" not in picture
        assert picture.startswith("<svg")


def test_calibration_counts_what_was_scored() -> None:
    def label(score_ppm: int, version: str = "aa", *, is_fraud: bool) -> review_pb2.Label:
        return review_pb2.Label(score_ppm=score_ppm, is_fraud=is_fraud, model_version=version)

    found = calibration_of([
        label(900_000, is_fraud=True), label(300_000, is_fraud=False), label(600_000, is_fraud=False),
        label(0, "", is_fraud=True),
    ])  # fmt: skip
    assert (found.rows, found.fraud_share) == (3, pytest.approx(1 / 3))
    assert found.score_share == pytest.approx(0.6)
    assert calibration_of([]) == Calibration()
