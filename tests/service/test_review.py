"""Held payments over real gRPC on the real ledger: the queue, the story behind one, a verdict that counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2
from kibubu.review.v1 import review_pb2, review_pb2_grpc
from prometheus_client import CollectorRegistry

from cluster.certificates import ensure_certificates, tls_paths
from node.ledger.columns import Column
from node.ledger.entry import encode_entry
from node.ledger.statuses import CommandStatus, FraudDecision, PaymentStatus
from node.payments.plan import HOLD_TIMEOUT_S
from node.payments.tariffs import load_tariffs
from node.service.admission import Admission
from node.service.document_kinds import KINDS
from node.service.fraud_client import FraudClient
from node.service.fraud_rules import KIND as RULES
from node.service.fraud_rules import NO_LISTS, FraudRules, Listed, Rule, rules_in_force
from node.service.fraud_thresholds import KEY, KIND, thresholds_in_force
from node.service.guard import Guard
from node.service.metrics import NodeMetrics
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.reads import ReadBarrier
from node.service.review_book import ReviewBook
from node.service.review_desk import ReviewDesk
from node.service.review_labels import KIND as LABELS
from node.service.review_labels import LabelBook
from node.service.review_servicer import ReviewServicer
from node.warm_up import warm_up
from tests.service.one_node import PIN, PIN_KEY, START_NS, OneNode

AMOUNT = 300_000  # above what passes when the sidecar does not answer
RELEASE, REFUSE = review_pb2.VERDICT_RELEASE, review_pb2.VERDICT_REFUSE


class Office:
    """A leader whose sidecar is down, and an analyst with a stub."""

    def __init__(self, node: OneNode, certificates: Path, rules: FraudRules = NO_LISTS) -> None:
        self.node, self.people = node, node.people()
        metrics, tariffs = NodeMetrics(CollectorRegistry()), load_tariffs()
        own = tls_paths(certificates, "node", "n1")
        self.fraud = FraudClient("127.0.0.1:1", own.ca, own.cert, own.key, 200, metrics)
        admission = Admission(node, metrics, leader_address=lambda: "", time_ns=lambda: START_NS)
        self.book = PaymentBook(node.store, tariffs, PIN_KEY, lambda: START_NS)
        self.desk = PaymentDesk(
            self.book,
            admission,
            self.fraud,
            metrics,
            unscored_allow_max_minor=100_000,
            rules=rules_in_force(node.store, rules),
            time_ns=lambda: START_NS,
        )
        guard = Guard(node, metrics, lambda: "")
        barrier = ReadBarrier(node, lambda: "")
        thresholds = thresholds_in_force(node.store)
        self.admission = admission
        held = ReviewBook(node.store, tariffs, thresholds)
        self.servicer = ReviewServicer(
            held, admission, barrier, guard, self.book, self.desk, ReviewDesk(node.store, admission, thresholds),
            LabelBook(node.store, held),
        )  # fmt: skip
        self.stub: Any = None

    async def hold(self, number: int, payer: str = "254712000001", payee: str = "0712000002") -> bytes:
        payment = payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=payer, payee=payee, amount_minor=AMOUNT,
            currency="KES",
        )  # fmt: skip
        draft = self.book.draft(number, payment)
        assert not isinstance(draft, PaymentStatus)
        outcome = await self.desk.decide(draft, PIN)
        assert outcome.status_name == "held_for_review"
        return number.to_bytes(16, "big")

    def balance(self, name: str) -> tuple[int, int]:
        """(balance, of it reserved)"""
        row = self.node.store.columns[self.people[name]]
        return int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED]), int(row[Column.DEBITS_PENDING])

    async def queue(self, size: int = 0) -> review_pb2.ListHeldPaymentsResponse:
        return await self.stub.ListHeldPayments(review_pb2.ListHeldPaymentsRequest(page_size=size), timeout=10)

    async def get(self, payment_id: bytes) -> review_pb2.GetHeldPaymentResponse:
        return await self.stub.GetHeldPayment(review_pb2.GetHeldPaymentRequest(payment_id=payment_id), timeout=10)

    async def pay(self, number: int, payer: str = "254712000001", payee: str = "254712000002") -> payments_pb2.Outcome:
        payment = payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=payer, payee=payee, amount_minor=50_000,
            currency="KES",
        )  # fmt: skip
        draft = self.book.draft(number, payment)
        assert not isinstance(draft, PaymentStatus)
        return await self.desk.decide(draft, PIN)

    async def set_thresholds(self, text: str) -> None:
        await self.put(KIND, text)

    async def labels(self, size: int = 0, until_ns: int = 0) -> list[tuple[str, bool, str]]:
        found, token, pages = [], "", 0
        while True:
            request = review_pb2.ListLabelsRequest(page_size=size, page_token=token, until_ns=until_ns)
            answer = await self.stub.ListLabels(request, timeout=10)
            found += [(label.payment_id.hex()[-2:], label.is_fraud, label.source) for label in answer.labels]
            token, pages = answer.next_page_token, pages + 1
            if not token:
                return found
            assert pages < 50

    async def put(self, kind: str, text: str, key: str = KEY) -> None:
        put = raft_pb2.PutDocument(kind=kind, key=key, body=text.encode(), author="test")
        command = raft_pb2.Command(request_id=blake2b(text.encode(), digest_size=16).digest(), put_document=put)
        (outcome,) = (await self.admission.submit(commands=[command])).commands
        assert outcome.status == CommandStatus.OK

    async def decide(self, payment_id: bytes, verdict: Any, analyst: str = "amina", comment: str = "") -> Any:
        request = review_pb2.DecideHeldPaymentRequest(
            payment_id=payment_id, verdict=verdict, analyst=analyst, comment=comment
        )
        return await self.stub.DecideHeldPayment(request, timeout=10)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    ensure_certificates(folder, [("node", "n1")])
    return folder


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """A kernel that is compiled by the first payment would take longer than a payment may."""
    warm_up()


@pytest.fixture
async def office(tmp_path: Path, certificates: Path) -> AsyncIterator[Office]:
    node = OneNode(tmp_path)
    office = Office(node, certificates)
    server = grpc.aio.server()
    review_pb2_grpc.add_ReviewServiceServicer_to_server(office.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        office.stub = review_pb2_grpc.ReviewServiceStub(channel)
        yield office
    await server.stop(None)
    await office.fraud.close()
    node.store.close()


async def test_the_queue_shows_who_waits_and_why(office: Office) -> None:
    assert (await office.queue()).waiting_total == 0
    ids = [await office.hold(number) for number in (7, 8)]
    ids.append(await office.hold(9, "254712000002", "0712000003"))
    answer = await office.queue(2)
    assert (answer.waiting_total, [held.payment_id for held in answer.payments]) == (3, ids[:2])
    held = answer.payments[0]
    assert (held.payer.name, held.payer.handle, held.payee.name) == ("Wanjiku", "254712000001", "Otieno")
    assert (held.amount_minor, held.currency, held.decision) == (AMOUNT, "KES", FraudDecision.HOLD_UNSCORED)
    assert held.expire_time_ns - held.held_time_ns == HOLD_TIMEOUT_S * 10**9
    assert held.state == review_pb2.REVIEW_STATE_WAITING
    office.node.store.checkpoint(wait=True)
    assert await office.queue(2) == answer  # read from disk by now, the same


async def test_a_release_moves_the_money_and_the_fee_once(office: Office) -> None:
    payment_id = await office.hold(7)
    reserved = office.balance("wanjiku")
    assert reserved[0] == 1_000_000
    assert reserved[1] > AMOUNT
    first = await office.decide(payment_id, RELEASE)
    assert (first.status, first.state, first.duplicate) == (0, review_pb2.REVIEW_STATE_RELEASED, False)
    assert office.balance("wanjiku") == (1_000_000 - reserved[1], 0)
    assert office.balance("otieno") == (1_000_000 + AMOUNT, 0)
    assert office.balance("fees")[0] + office.balance("excise")[0] == reserved[1] - AMOUNT
    again = await office.decide(payment_id, RELEASE)
    assert (again.status, again.duplicate, again.position) == (0, True, first.position)
    for verdict, analyst in ((REFUSE, "amina"), (RELEASE, "baraka")):
        other = await office.decide(payment_id, verdict, analyst)
        assert other.status_name == "id_used_for_another_transfer"
        assert other.state == review_pb2.REVIEW_STATE_RELEASED
    assert office.balance("otieno") == (1_000_000 + AMOUNT, 0)
    shown = (await office.get(payment_id)).payment
    assert (shown.state, shown.analyst) == (review_pb2.REVIEW_STATE_RELEASED, "amina")
    assert (await office.queue()).waiting_total == 0


async def test_a_refusal_leaves_the_money_with_the_payer(office: Office) -> None:
    payment_id = await office.hold(7)
    assert (await office.decide(payment_id, REFUSE)).state == review_pb2.REVIEW_STATE_REFUSED
    assert office.balance("wanjiku") == (1_000_000, 0)
    assert office.balance("otieno") == (1_000_000, 0)
    assert (await office.get(payment_id)).payment.state == review_pb2.REVIEW_STATE_REFUSED


async def test_above_an_amount_two_different_analysts_must_agree(office: Office) -> None:
    await office.set_thresholds(f"two_person_above_minor = {AMOUNT - 1}")
    payment_id = await office.hold(7)
    assert (await office.get(payment_id)).payment.analysts_needed == 2
    for _ in range(2):  # the same analyst again is no second one
        first = await office.decide(payment_id, RELEASE, "amina", "called him; he knows her")
        assert (first.status, first.state, first.analysts_missing) == (0, review_pb2.REVIEW_STATE_WAITING, 1)
    other = await office.decide(payment_id, REFUSE, "baraka", "a mule")
    assert (other.state, other.analysts_missing) == (review_pb2.REVIEW_STATE_WAITING, 1)
    assert office.balance("otieno") == (1_000_000, 0)
    shown = (await office.get(payment_id)).payment
    assert [(one.analyst, one.verdict, one.comment) for one in shown.opinions] == [
        ("amina", RELEASE, "called him; he knows her"), ("baraka", REFUSE, "a mule"),
    ]  # fmt: skip
    changed = await office.decide(payment_id, RELEASE, "baraka", "looked again")
    assert (changed.state, changed.analysts_missing) == (review_pb2.REVIEW_STATE_RELEASED, 0)
    assert office.balance("otieno") == (1_000_000 + AMOUNT, 0)
    versions = office.node.store.document_versions("review", payment_id.hex())
    assert [document.author for document in versions] == ["baraka", "baraka", "amina"]
    late = await office.decide(payment_id, REFUSE, "chege")
    assert late.status_name == "id_used_for_another_transfer"
    assert len(office.node.store.document_versions("review", payment_id.hex())) == 3


async def test_two_who_speak_at_once_are_both_heard(office: Office) -> None:
    await office.set_thresholds("two_person_above_minor = 0")
    payment_id = await office.hold(7)
    said = await asyncio.gather(*(office.decide(payment_id, RELEASE, name) for name in ("amina", "baraka")))
    assert office.balance("otieno") == (1_000_000 + AMOUNT, 0)
    assert [one.state for one in said].count(review_pb2.REVIEW_STATE_RELEASED) >= 1
    assert len((await office.get(payment_id)).payment.opinions) == 2


async def test_at_the_amount_one_analyst_is_enough(office: Office) -> None:
    await office.set_thresholds(f"two_person_above_minor = {AMOUNT}")
    payment_id = await office.hold(7)
    assert (await office.decide(payment_id, REFUSE)).state == review_pb2.REVIEW_STATE_REFUSED


async def test_rules_of_the_ledger_replace_a_nodes_own_and_a_bad_version_changes_nothing(office: Office) -> None:
    assert (await office.pay(1)).decision == FraudDecision.ALLOW_UNSCORED
    await office.put(RULES, "cap_minor = 40000")
    assert (await office.pay(2)).status_name == "held_for_review"
    await office.put(RULES, "nonsense = 1")
    assert (await office.pay(3)).status_name == "held_for_review"
    await office.put(RULES, "cap_minor = 0")
    assert (await office.pay(4)).decision == FraudDecision.ALLOW_UNSCORED


async def test_labels_are_verdicts_and_what_was_said_later(office: Office) -> None:
    ids = [await office.hold(number) for number in (7, 8, 9)]
    await office.pay(10)
    await office.decide(ids[0], RELEASE)
    await office.decide(ids[1], REFUSE)
    for size in (0, 1):
        assert await office.labels(size) == [("07", False, "verdict"), ("08", True, "verdict")]
    await office.put(LABELS, 'label = "fraud"\nsource = "customer_report"\ncomment = "a"', ids[0].hex())
    await office.put(LABELS, 'label = "honest"\nsource = "confirmed"', f"{10:032x}")
    expected = [("07", True, "customer_report"), ("0a", False, "confirmed"), ("08", True, "verdict")]
    for size in (0, 1):
        assert await office.labels(size) == expected
    assert await office.labels(until_ns=START_NS + 10**12) == expected
    assert await office.labels(until_ns=START_NS - 1) == []
    for token in ("nonsense", "tariff:" + "0" * 32, "review:0"):
        with pytest.raises(grpc.aio.AioRpcError, match="page_token: is not one of this call"):
            await office.stub.ListLabels(review_pb2.ListLabelsRequest(page_token=token), timeout=10)


@pytest.mark.parametrize(
    ("key", "body", "complaint"),
    [
        ("short", b"", "key: must be a payment's id"),
        ("0" * 32, b"label = 1", "label: must be fraud or honest"),
        ("0" * 32, b'label = "fraud"', "source: must be one of"),
        ("0" * 32, b'label = "fraud"\nsource = "rumour"', "source: must be one of"),
        ("0" * 32, b'label = "fraud"\nsource = "confirmed"\nmore = 1', "nothing else"),
        ("0" * 32, b'label = "fraud"\nsource = "confirmed"\ncomment = 1', "comment: must be a text"),
        ("0" * 32, b"\xff", "body: must be TOML"),
    ],
)
def test_a_wrong_label_is_refused(key: str, body: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        KINDS[LABELS](key, body)


async def test_the_links_between_accounts(office: Office) -> None:
    payment_id = await office.hold(7)
    await office.hold(9, "254712000003", "0712000002")
    links = (await office.get(payment_id)).links
    assert {(link.from_name, link.to_name, link.payments, link.amount_minor) for link in links} == {
        ("Wanjiku", "Otieno", 1, AMOUNT), ("Achieng", "Otieno", 1, AMOUNT),
    }  # fmt: skip


async def test_nobody_decides_in_time(office: Office) -> None:
    payment_id = await office.hold(7)
    office.node.write(encode_entry(START_NS + (HOLD_TIMEOUT_S + 1) * 10**9, transfers=b""))
    assert (await office.queue()).waiting_total == 0
    assert (await office.get(payment_id)).payment.state == review_pb2.REVIEW_STATE_EXPIRED
    late = await office.decide(payment_id, RELEASE)
    assert late.status != 0
    assert late.state == review_pb2.REVIEW_STATE_EXPIRED
    assert office.balance("wanjiku") == (1_000_000, 0)
    assert (await office.get(payment_id)).payment.analyst == ""


async def test_the_story_of_both_accounts(office: Office) -> None:
    await office.hold(7)
    payment_id = await office.hold(8)
    answer = await office.get(payment_id)
    assert answer.found
    assert [(item.is_debit, item.is_pending, item.amount_minor) for item in answer.payer_history] == [
        (True, True, AMOUNT), (True, True, AMOUNT), (False, False, 1_000_000),
    ]  # fmt: skip
    assert [item.other_name for item in answer.payee_history][:2] == ["Wanjiku", "Wanjiku"]
    assert not (await office.get(b"\x01" * 16)).found


@pytest.mark.parametrize(
    ("payment_id", "verdict", "analyst", "complaint"),
    [
        (b"short", RELEASE, "amina", "payment_id: must be 16 bytes"),
        (b"\x01" * 16, RELEASE, "amina", "payment_id: no held payment has this id"),
        (b"\x01" * 16, 0, "amina", "verdict: must be release or refuse"),
        (b"\x01" * 16, RELEASE, "", "analyst: must be 1 to 20 printable bytes"),
        (b"\x01" * 16, RELEASE, "x" * 21, "analyst: must be 1 to 20 printable bytes"),
        (b"\x01" * 16, RELEASE, "a\nb", "analyst: must be 1 to 20 printable bytes"),
    ],
)
async def test_a_bad_verdict_names_its_field(
    office: Office, payment_id: bytes, verdict: Any, analyst: str, complaint: str
) -> None:
    proposed = office.node.proposed
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await office.decide(payment_id, verdict, analyst)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in str(caught.value.details())
    with pytest.raises(grpc.aio.AioRpcError, match="page_size: at most 500"):
        await office.queue(501)
    assert office.node.proposed == proposed


async def test_an_ordinary_payment_is_not_an_analysts(office: Office) -> None:
    draft = office.book.draft(
        5,
        payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn="254712000001", payee="0712000002",
            amount_minor=50_000, currency="KES",
        ),
    )  # fmt: skip
    assert not isinstance(draft, PaymentStatus)
    assert (await office.desk.decide(draft, PIN)).status_name == "ok"
    assert not (await office.get((5).to_bytes(16, "big"))).found


async def test_a_rule_is_applied_and_is_the_first_reason(tmp_path: Path, certificates: Path) -> None:
    node = OneNode(tmp_path)
    later = START_NS + 1
    lists = (Listed("254712000003", Rule.REFUSE_LIST, later), Listed("254712000001", Rule.ALLOW_LIST, later))
    office = Office(node, certificates, FraudRules(cap_minor=40_000, lists=lists))

    async def pay(number: int, payer: str, payee: str) -> payments_pb2.Outcome:
        payment = payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY, payer_msisdn=payer, payee=payee, amount_minor=50_000,
            currency="KES",
        )  # fmt: skip
        draft = office.book.draft(number, payment)
        assert not isinstance(draft, PaymentStatus)
        return await office.desk.decide(draft, PIN)

    assert (await pay(1, "254712000001", "254712000002")).decision == FraudDecision.ALLOW_UNSCORED
    assert (await pay(2, "254712000002", "254712000003")).status_name == "refused_by_fraud_check"
    assert (await pay(3, "254712000002", "254712000001")).decision == FraudDecision.ALLOW_UNSCORED
    stored = node.store.lookup_payment(2)
    assert stored is not None
    assert int(stored.record["reason_1"]) == 200 + Rule.REFUSE_LIST
    await office.fraud.close()
    node.store.close()


async def test_a_voucher_that_would_be_held_is_refused(office: Office) -> None:
    """It cannot wait for an analyst and for its bearer at once."""
    office.node.agents()
    payment = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_SEND_TO_UNREGISTERED, payer_msisdn="254712000001", payee="0712000077",
        amount_minor=AMOUNT, currency="KES",
    )  # fmt: skip
    draft = office.book.draft(9, payment)
    assert not isinstance(draft, PaymentStatus)
    outcome = await office.desk.decide(draft, PIN)
    assert (outcome.status_name, outcome.decision) == ("refused_by_fraud_check", FraudDecision.HOLD_UNSCORED)
    assert office.balance("wanjiku") == (1_000_000, 0)


async def test_a_deposit_is_watched_and_not_stopped(office: Office) -> None:
    """The customer's cash lies on the agent's counter by then."""
    office.people |= office.node.agents()
    payment = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_CASH_IN, payer="20001", payee="0712000001", amount_minor=AMOUNT, currency="KES"
    )
    draft = office.book.draft(9, payment)
    assert not isinstance(draft, PaymentStatus)
    outcome = await office.desk.decide(draft, PIN)
    assert (outcome.status_name, outcome.decision) == ("ok", FraudDecision.ALLOW_UNSCORED)
    assert office.balance("wanjiku") == (1_000_000 + AMOUNT, 0)


@pytest.mark.parametrize(("verdict", "state"), [(RELEASE, "PAID"), (REFUSE, "DECLINED")])
async def test_a_request_to_pay_that_is_held_is_paid_by_the_verdict(office: Office, verdict: Any, state: str) -> None:
    """Its first leg has an id that follows from the request; the verdict finds it."""
    requests, asked = office.book.requests, (77).to_bytes(16, "big")
    new = requests.checked(
        payments_pb2.RequestPaymentRequest(
            pay_request_id=asked, merchant="123456", payer_msisdn="254712000001", amount_minor=AMOUNT, currency="KES"
        )
    )
    assert isinstance(new, payments_pb2.PayRequest)
    for command in requests.commands(new, requests.account_of(new)):
        office.node.command(put_document=command.put_document)
    payment = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_PAY_REQUEST,
        payer_msisdn="254712000001",
        original_payment_id=asked,
        currency="KES",
    )
    draft = office.book.draft(9, payment)
    assert not isinstance(draft, PaymentStatus)
    assert (await office.desk.decide(draft, PIN)).status_name == "held_for_review"
    assert requests.state(new) == payments_pb2.PAY_REQUEST_STATE_HELD
    assert (await office.decide((9).to_bytes(16, "big"), verdict)).status_name == "ok"
    paid = AMOUNT if verdict == RELEASE else 0
    assert (office.balance("wanjiku"), office.balance("till")) == ((1_000_000 - paid, 0), (paid, 0))
    assert payments_pb2.PayRequestState.Name(requests.state(new)) == f"PAY_REQUEST_STATE_{state}"
