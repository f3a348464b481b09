"""The phone in the browser, by clicks in headless Chromium, to the running edge with real money behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from cluster.calls import Caller
from cluster.demo import DEMO_PIN
from cluster.layout import Layout
from cluster.packages import EDGE_TEST_PACKAGES, ensure_packages
from tests.cluster.phone import Customer, balance_minor
from ussd_edge.gateways import GATEWAYS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
WAIT_S = 60


class Phone:
    """What a person does with it: look and press."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self._browser = browser
        browser.get(url)
        self.wait(lambda: len(self._all("#keypad button")) == 12)

    def _one(self, selector: str) -> object:
        return self._browser.find_element(By.CSS_SELECTOR, selector)

    def _all(self, selector: str) -> list[object]:
        return self._browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, what: Callable[[], object]) -> None:
        WebDriverWait(self._browser, WAIT_S, poll_frequency=0.02).until(lambda _: what())

    @property
    def text(self) -> str:
        return str(self._browser.execute_script("return document.getElementById('screen').textContent"))

    @property
    def screens(self) -> int:
        return int(self._one("#screens").text)  # type: ignore[attr-defined]

    def click(self, selector: str) -> None:
        self._one(selector).click()  # type: ignore[attr-defined]

    def keys(self, text: str) -> None:
        for key in text:
            self.click(f'[data-key="{key}"]')

    def use(self, msisdn: str, gateway: str) -> None:
        field = self._one("#msisdn")
        field.clear()  # type: ignore[attr-defined]
        field.send_keys(msisdn)  # type: ignore[attr-defined]
        Select(self._one("#gateway")).select_by_value(gateway)  # type: ignore[arg-type]

    def dial(self, text: str) -> str:
        self.click("#end")
        self.keys(text)
        self.click("#call")
        self.wait(lambda: self.screens == 1 and "running" not in self.text)
        return self.text

    def send(self, text: str) -> str:
        before = self.screens
        self.keys(text)
        self.click("#left")
        self.wait(lambda: self.screens == before + 1)
        return self.text

    def journey(self, *inputs: str) -> str:
        shown = self.dial("*384*100#")
        for text in inputs:
            shown = self.send(text)
        return shown


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    ensure_packages(EDGE_TEST_PACKAGES)
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Debian's chromium is not here and cannot be installed")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=960,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def phone(browser: Chrome, cluster: Layout) -> Iterator[Phone]:
    yield Phone(browser, f"http://{cluster.edge_address}/phone")
    assert [entry["message"] for entry in browser.get_log("browser")] == []  # nothing failed, nothing was blocked


JOURNEYS = {
    "send": (("1", "{payee}", "50", DEMO_PIN), "Sent KES 50.00 to Njeri. Balance 9,950.00.", 995_000),
    "till": (("2", "123456", "30", DEMO_PIN), "Paid KES 30.00 to Mama Mboga.", 997_000),
    "bill": (("3", "888880", "77", "60", DEMO_PIN), "Paid KES 60.00 to Kibubu Power for 77.", 994_000),
    "airtime": (("4", "1", "20", DEMO_PIN), "Airtime KES 20.00 for ", 998_000),
    "balance": (("5", DEMO_PIN), "Your balance is KES 10,000.00.", 1_000_000),
}


@pytest.mark.parametrize("name", list(JOURNEYS))
def test_a_journey_by_clicks(name: str, phone: Phone, operator: Caller, customer: Customer) -> None:
    inputs, said, left_minor = JOURNEYS[name]
    payer, payee = customer(), customer(name="Njeri")
    phone.use(payer, list(GATEWAYS)[list(JOURNEYS).index(name)])
    shown = phone.journey(*(text.format(payee=payee) for text in inputs))
    assert shown.startswith(said)
    assert phone.screens == len(inputs) + 1
    assert balance_minor(operator, payer) == left_minor


@pytest.mark.parametrize("gateway", list(GATEWAYS))
def test_it_speaks_every_gateway(gateway: str, phone: Phone, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer(name="Njeri")
    phone.use(payer, gateway)
    assert "Send KES 20.00 to Njeri?" in phone.dial(f"*384*100*1*{payee}*20#")
    phone.click("#drop")
    assert phone.dial("*384*100#").startswith("You stopped before the end.")
    phone.send("1")
    assert phone.send(DEMO_PIN).startswith("Sent KES 20.00 to Njeri.")
    assert balance_minor(operator, payee) == 1_002_000


def test_the_texts_that_arrive(phone: Phone, browser: Chrome, customer: Customer) -> None:
    payer, payee = customer(name="Wambui"), customer(name="Njeri")
    phone.use(payer, "africastalking")
    assert browser.find_element(By.ID, "texts").text == ""
    receipt = phone.journey("1", payee, "500", DEMO_PIN).rpartition(" ")[2]
    texts = lambda: browser.execute_script("return document.getElementById('texts').textContent")  # noqa: E731
    phone.wait(lambda: f"{receipt} Confirmed. Ksh500.00 sent to Njeri" in texts())
    phone.click("#left")
    phone.use(payee, "africastalking")
    phone.wait(lambda: f"{receipt} Confirmed. You have received Ksh500.00 from Wambui" in texts())
    assert f"Ksh500.00 sent to Njeri 0{payee[3:]}" not in texts()


def test_what_it_shows_of_the_session(phone: Phone, browser: Chrome, customer: Customer, state_folder: Path) -> None:
    phone.use(customer(), "africastalking")
    phone.journey("5", DEMO_PIN)
    steps = browser.find_element(By.ID, "steps").text
    assert "••••" in steps
    assert DEMO_PIN not in browser.page_source
    assert browser.find_element(By.ID, "septets").text == str(len(phone.text))
    assert browser.find_element(By.ID, "price").text == "6.98"
    phone.click("#left")
    assert phone.text == ""


def test_another_code_and_letters(phone: Phone, customer: Customer) -> None:
    phone.use(customer(), "africastalking")
    assert phone.dial("*999#") == "This service code is not in use."
    phone.dial("*384*100#")
    phone.send("3")
    phone.send("888880")
    phone.keys("#23")  # letters: A, D; how fast a machine clicks is no matter
    phone.wait(lambda: phone._one("#entry").text == "AD")  # type: ignore[attr-defined]
    phone.click("#right")
    phone.click("#left")
    phone.wait(lambda: "Enter amount" in phone.text)
