"""Two analysts at their page, by clicks in headless Chromium, with real held money behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cluster import lifecycle, processes
from cluster.calls import Caller
from cluster.cli import main
from cluster.layout import FRAUD, Layout
from tests.cluster.phone import Customer, balance_minor, pay, wait_for
from tests.cluster.test_browser_phone import WAIT_S, browser

__all__ = ["browser"]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def kibubu(layout: Layout, *arguments: str) -> str:
    environment = {"KIBUBU_HOME": str(layout.home), "KIBUBU_PORT_BASE": str(layout.port_base)}
    result = CliRunner().invoke(main, ["fraud", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    return result.output.strip()


class Desk:
    """What an analyst does: look, fill in, press."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser, self.url = browser, url

    def text(self, selector: str = "body") -> str:
        return self.browser.find_element(By.CSS_SELECTOR, selector).text

    def fill(self, name: str, value: str) -> None:
        self.browser.find_element(By.NAME, name).send_keys(value)

    def press(self, selector: str) -> None:
        """And wait for the page that follows."""
        before = self.browser.find_element(By.TAG_NAME, "html")
        self.browser.find_element(By.CSS_SELECTOR, selector).click()
        WebDriverWait(self.browser, WAIT_S, poll_frequency=0.02).until(lambda _: self._is_gone(before))

    def _is_gone(self, element: object) -> bool:
        try:
            return self.browser.find_element(By.TAG_NAME, "html") != element
        except Exception:  # between two pages there is none
            return False

    def log_in(self, token: str) -> None:
        self.browser.get(self.url)
        self.fill("token", token)
        self.press("main button")

    def decide(self, verdict: str, comment: str) -> str:
        self.fill("comment", comment)
        self.press(f'button[value="{verdict}"]')
        return self.text(".message")


@pytest.fixture
def desk(browser: Chrome, cluster: Layout) -> Iterator[Desk]:
    yield Desk(browser, f"http://{cluster.review_address}/")
    browser.delete_all_cookies()
    wrong_token = "login - Failed to load resource: the server responded with a status of 401"
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert [one for one in messages if wrong_token not in one] == []  # nothing was blocked


@pytest.fixture
def hold(cluster: Layout, operator: Caller, customer: Customer) -> Iterator[Callable[[int], tuple[str, str, str]]]:
    """Payer, payee and id of a payment that waits for an analyst."""

    def make(amount_minor: int) -> tuple[str, str, str]:
        payer, payee = customer(opening_minor=10_000_000, name="Otieno"), customer(name="Njeri")
        for small in (5_000, 7_000):
            pay(operator, payer, payee, small)
        processes.kill(cluster.pid_file(FRAUD))
        outcome = pay(operator, payer, payee, amount_minor)
        assert outcome.status_name == "held_for_review"
        lifecycle.start_service(cluster, FRAUD)
        rows = kibubu(cluster, "queue", "--size", "500").replace("│", " ").splitlines()
        return payer, payee, rows[-3].split()[0]

    yield make
    lifecycle.start_service(cluster, FRAUD)


def test_an_analyst_reads_and_releases(
    cluster: Layout, operator: Caller, desk: Desk, hold: Callable[[int], tuple[str, str, str]]
) -> None:
    _, payee, held = hold(2_000_000)
    desk.log_in("wrong")
    assert desk.text(".message") == "Nobody has this token."
    desk.log_in(kibubu(cluster, "analyst", "amina"))
    assert "waiting" in desk.text("#total")
    desk.browser.get(f"{desk.url}payments/{held}")
    assert desk.text("#state") == "waiting"
    assert "KES 20,000.00 and a fee of" in desk.text()
    assert len(desk.browser.find_elements(By.CSS_SELECTOR, "svg.history circle")) >= 4
    assert len(desk.browser.find_elements(By.CSS_SELECTOR, "svg.links path.paid")) >= 1
    before = balance_minor(operator, payee)
    assert desk.decide("release", "called him: his sister") == "Done: it is released."
    assert desk.text("#state") == "released by amina"
    assert balance_minor(operator, payee) == before + 2_000_000
    assert desk.browser.find_elements(By.ID, "verdict") == []
    assert "amina says release: called him: his sister" in kibubu(cluster, "show", held)
    desk.press("header button")
    desk.browser.get(f"{desk.url}payments/{held}")
    assert "Your token" in desk.text()


def test_above_the_amount_another_analyst_must_agree(
    cluster: Layout, operator: Caller, desk: Desk, hold: Callable[[int], tuple[str, str, str]]
) -> None:
    payer, _, held = hold(6_000_000)
    reserved = balance_minor(operator, payer)
    page = f"{desk.url}payments/{held}"
    desk.log_in(kibubu(cluster, "analyst", "amina"))
    desk.browser.get(page)
    for _ in range(2):  # twice the same person is one opinion
        assert desk.decide("refuse", "a mule") == "Your opinion is recorded; another analyst must agree."
        assert desk.text("#state") == "waiting"
    desk.press("header button")
    desk.log_in(kibubu(cluster, "analyst", "baraka"))
    desk.browser.get(page)
    assert desk.text("#opinions") == "amina says refuse: a mule"
    assert desk.decide("refuse", "so it is") == "Done: it is refused."
    assert desk.text("#state") == "refused by baraka"
    wait_for(lambda: balance_minor(operator, payer) == reserved)
