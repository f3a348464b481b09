"""What must be refused, on every port of a real cluster: a clear error, and nothing changed."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc
from kibubu.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from kibubu.raft.v1 import raft_pb2, raft_pb2_grpc

from cluster import certificates, demo
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import Caller, CallError
from cluster.certificates import TlsPaths, tls_paths
from cluster.config_files import SERVICE_CODE
from cluster.health import find_leader, node_status
from cluster.ids import new_id
from cluster.layout import Layout
from cluster.vocabulary import AccountKind
from kibubu_client import new_id as new_number
from kibubu_client import pack_transfer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
Customer = Callable[..., str]
UNARY: dict[str, tuple[Any, str, Any]] = {
    "LedgerService": (ledger_pb2_grpc.LedgerServiceStub, "LookupAccounts", ledger_pb2.LookupAccountsRequest()),
    "CreateTransfersPacked": (
        ledger_pb2_grpc.LedgerServiceStub, "CreateTransfersPacked", ledger_pb2.CreateTransfersPackedRequest(),
    ),
    "PaymentsService": (payments_pb2_grpc.PaymentsServiceStub, "MakePayments", payments_pb2.MakePaymentsRequest()),
    "AdminService": (admin_pb2_grpc.AdminServiceStub, "GetStatus", admin_pb2.GetStatusRequest()),
}  # fmt: skip


@pytest.fixture
def leader(cluster: Layout, operator: Caller) -> str:
    return cluster.api_address(find_leader(operator, cluster))


def channel(address: str, tls: TlsPaths, *, with_certificate: bool = True) -> grpc.Channel:
    pair = (tls.key.read_bytes(), tls.cert.read_bytes()) if with_certificate else (None, None)
    credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), *pair)
    return grpc.secure_channel(
        address, credentials,
        options=(("grpc.ssl_target_name_override", "kibubu"), ("grpc.use_local_subchannel_pool", 1),
                 ("grpc.max_send_message_length", 64 << 20)),
    )  # fmt: skip


def code_of(address: str, tls: TlsPaths, call: str, *, with_certificate: bool = True) -> grpc.StatusCode:
    stub, method, request = UNARY[call]
    with channel(address, tls, with_certificate=with_certificate) as open_channel:
        try:
            getattr(stub(open_channel), method)(request, timeout=5)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("role", "name", "allowed"),
    [
        ("operator", "operator", set(UNARY)),
        ("edge", "edge", {"PaymentsService"}),
        ("node", "n1", set()),
        ("fraud", "fraud", set()),
        ("prometheus", "prometheus", set()),
    ],
)
def test_a_role_may_call_only_its_services(
    cluster: Layout, leader: str, role: str, name: str, allowed: set[str]
) -> None:
    paths = tls_paths(cluster.certificates, role, name)
    assert paths.cert.exists(), "the layout names its certificates otherwise"
    for call in UNARY:
        expected = grpc.StatusCode.OK if call in allowed else grpc.StatusCode.PERMISSION_DENIED
        assert code_of(leader, paths, call) is expected, call


def test_no_certificate_no_service(cluster: Layout, leader: str) -> None:
    paths = tls_paths(cluster.certificates, "operator", "operator")
    assert code_of(leader, paths, "AdminService", with_certificate=False) is grpc.StatusCode.UNAVAILABLE
    assert code_of(cluster.fraud_address, paths, "AdminService", with_certificate=False) is grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def forged(cluster: Layout, tmp_path: Path) -> Iterator[Callable[..., TlsPaths]]:
    """Certificates that look right but are not: of another authority, or of yesterday."""

    def make(*, own_authority: bool, expired: bool, uri: str = "spiffe://kibubu/operator/operator") -> TlsPaths:
        folder = tmp_path / "forged"
        if own_authority:
            certificates.ensure_certificates(folder, [])
        authority = certificates._ensure_authority(folder if own_authority else cluster.certificates)
        key = certificates.ec.generate_private_key(certificates.ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        until = now - datetime.timedelta(hours=1) if expired else now + datetime.timedelta(hours=1)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "forged")])
        names = x509.SubjectAlternativeName([x509.DNSName("kibubu"), x509.UniformResourceIdentifier(uri)])
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(authority.certificate.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2)).not_valid_after(until)
            .add_extension(names, critical=False).sign(authority.key, hashes.SHA256())
        )  # fmt: skip
        folder.mkdir(exist_ok=True)
        cert, key_path = folder / "forged.crt", folder / "forged.key"
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsPaths(cluster.certificates / "ca.crt", cert, key_path)

    return make


def test_a_forged_certificate_opens_nothing(cluster: Layout, leader: str, forged: Callable[..., TlsPaths]) -> None:
    good = forged(own_authority=False, expired=False)
    assert code_of(leader, good, "AdminService") is grpc.StatusCode.OK  # the fixture can make one that works
    for paths in (forged(own_authority=True, expired=False), forged(own_authority=False, expired=True)):
        assert code_of(leader, paths, "AdminService") is grpc.StatusCode.UNAVAILABLE
    for uri in ("spiffe://kibubu/operator", "spiffe://other/operator/x", "https://kibubu/operator/x"):
        nobody = forged(own_authority=False, expired=False, uri=uri)
        assert code_of(leader, nobody, "AdminService") is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("role", "name"), [("edge", "edge"), ("operator", "operator"), ("fraud", "fraud")])
def test_only_nodes_reach_the_raft_port(cluster: Layout, leader: str, role: str, name: str) -> None:
    with channel(cluster.peer_address("n1"), tls_paths(cluster.certificates, role, name)) as open_channel:
        stub = raft_pb2_grpc.RaftServiceStub(open_channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Link(iter([raft_pb2.LinkFrame(frame=b"hello")]), timeout=5))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_an_edge_may_not_ask_the_sidecar(cluster: Layout, leader: str) -> None:
    paths = tls_paths(cluster.certificates, "edge", "edge")
    with channel(cluster.fraud_address, paths) as open_channel, pytest.raises(grpc.RpcError) as caught:
        fraud_pb2_grpc.FraudServiceStub(open_channel).GetModel(fraud_pb2.GetModelRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def transfers_total(cluster: Layout, operator: Caller) -> int:
    status = node_status(operator, cluster.api_address(find_leader(operator, cluster)))
    assert status is not None
    return int(status.transfers_total)


@pytest.mark.parametrize(
    ("size", "complaint"),
    [(127, "128-byte records"), (129, "128-byte records"), (8_191 * 128, "8190"), (2_000_000, "larger than max")],
)
def test_malformed_packed_batches(cluster: Layout, operator: Caller, leader: str, size: int, complaint: str) -> None:
    before = transfers_total(cluster, operator)
    paths = tls_paths(cluster.certificates, "operator", "operator")
    with channel(leader, paths) as open_channel, pytest.raises(grpc.RpcError) as caught:
        ledger_pb2_grpc.LedgerServiceStub(open_channel).CreateTransfersPacked(
            ledger_pb2.CreateTransfersPackedRequest(transfers=b"\1" * size), timeout=5
        )
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert complaint in caught.value.details()
    assert transfers_total(cluster, operator) == before


def test_transfers_that_break_a_rule_change_nothing(cluster: Layout, operator: Caller, customer: Customer) -> None:
    payer, payee = customer(), customer()
    debit, credit = find_account(operator, payer).account_number, find_account(operator, payee).account_number
    most = (1 << 63) - 1

    def status_of(**changes: int) -> str:
        fields = {"debit_account": debit, "credit_account": credit, "amount_minor": 5, "ledger": LEDGER_KES, "code": 9}
        request = ledger_pb2.Transfer(**(fields | {"id": new_id()} | changes))  # type: ignore[arg-type]
        answer = operator.leader(
            lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfers,
            ledger_pb2.CreateTransfersRequest(transfers=[request]),
        )
        return str(answer.results[0].status_name)

    issuance = find_account(operator, "system:KES/issuance").account_number
    assert status_of(amount_minor=0) == "amount_must_not_be_zero"
    assert status_of(amount_minor=-5) == "amount_must_not_be_negative"
    assert status_of(debit_account=issuance, amount_minor=most) == "debits_posted_overflow"
    assert status_of(amount_minor=most) in ("credits_posted_overflow", "debits_posted_overflow")
    assert status_of(credit_account=debit) == "accounts_must_differ"
    assert status_of(credit_account=10**9) == "credit_account_not_found"
    assert status_of(ledger=800) == "ledger_differs_from_accounts"
    assert status_of(flags=1 << 15) == "flags_unknown"
    assert status_of(amount_minor=1_000_001) == "debits_exceed_credits"
    assert find_account(operator, payer).balance_minor == find_account(operator, payee).balance_minor == 1_000_000


def test_a_reused_id_is_refused_and_a_retry_is_not(operator: Caller, customer: Customer) -> None:
    payer, payee, number = customer(), customer(), new_number()
    debit, credit = find_account(operator, payer).account_number, find_account(operator, payee).account_number

    def send(amount_minor: int) -> ledger_pb2.CreateTransfersPackedResponse:
        packed = pack_transfer(number, debit, credit, amount_minor, ledger=LEDGER_KES, code=9)
        return operator.leader(
            lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfersPacked,
            ledger_pb2.CreateTransfersPackedRequest(transfers=packed),
        )

    first, retry, other = send(100).replies, send(100).replies, send(101).replies
    assert first[:2] == b"\0\0"
    assert retry[2:4] == b"\1\0"
    assert (retry[:2], retry[8:]) == (first[:2], first[8:])
    assert int.from_bytes(other[:2], "little") == 22
    assert find_account(operator, payee).balance_minor == 1_000_100


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (ledger_pb2.CreateTransfersRequest(transfers=[ledger_pb2.Transfer(id=b"short")]), "transfers[0].id"),
        (
            ledger_pb2.CreateTransfersRequest(transfers=[ledger_pb2.Transfer(id=bytes(16), narrative="x" * 33)]),
            "transfers[0].narrative",
        ),
        (ledger_pb2.CreateTransfersRequest(transfers=[ledger_pb2.Transfer(id=bytes(16), code=70_000)]), "code"),
    ],
)
def test_friendly_calls_name_the_field(
    operator: Caller, request_: ledger_pb2.CreateTransfersRequest, complaint: str
) -> None:
    with pytest.raises(CallError, match="invalid argument") as caught:
        operator.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfers, request_)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("value", ["0712000009", "+254712000009", "712000009", "254202123456", "wanjiku", ""])
def test_a_phone_number_that_nobody_could_pay_gets_no_account(operator: Caller, value: str) -> None:
    handle = ledger_pb2.Handle(key="msisdn", value=value)
    stub = ledger_pb2_grpc.LedgerServiceStub
    new = ledger_pb2.NewAccount(request_id=new_id(), ledger=LEDGER_KES, kind=1, handles=[handle])
    with pytest.raises(CallError, match=r"accounts\[0\]\.handles\[0\]\.value: must be a mobile number's E\.164"):
        operator.leader(lambda c: stub(c).CreateAccounts, ledger_pb2.CreateAccountsRequest(accounts=[new]))
    update = ledger_pb2.AccountUpdate(request_id=new_id(), account_number=1, add_handle=handle)
    with pytest.raises(CallError, match=r"updates\[0\]\.add_handle\.value: must be a mobile number's E\.164"):
        operator.leader(lambda c: stub(c).UpdateAccounts, ledger_pb2.UpdateAccountsRequest(updates=[update]))


def test_demo_data_that_the_ledger_refuses_is_named(operator: Caller) -> None:
    account = demo.DemoAccount("Nobody", "shop", "1", AccountKind.OTHER)
    with pytest.raises(demo.SeedError, match="account shop:1: handle_key_unknown"):
        demo.create_accounts(operator, [account])


def post(layout: Layout, form: dict[str, str]) -> httpx.Response:
    good = {"sessionId": "bad", "serviceCode": SERVICE_CODE, "phoneNumber": "+254712000001", "text": ""}
    fields = {name: value for name, value in (good | form).items() if value != "absent"}
    return httpx.post(f"http://{layout.edge_address}/ussd/africastalking", data=fields, timeout=15)


@pytest.mark.parametrize(
    ("form", "status", "complaint"),
    [
        ({"text": "rubbish"}, 200, "CON Choose a number from the list."),
        ({"text": "\N{PILE OF POO}*\N{GRINNING FACE}"}, 200, "CON Choose a number from the list."),
        ({"text": "1*" + "9" * 10_000}, 200, "END That was too long."),
        ({"text": "*" * 10_000}, 200, "END That was too long."),
        ({"text": "1*254712000002*10*12"}, 200, "CON A PIN has 4 digits."),
        ({"text": "1*254712000002*10*12345"}, 200, "CON A PIN has 4 digits."),
        ({"text": "1*254712000002*-10"}, 200, "CON Amount like 500"),
        ({"text": "1*254799999999*10"}, 200, "END No customer has this number."),
        ({"text": "2*999999*10"}, 200, "END No business has this till."),
        ({"text": "1*254712000002*9999999"}, 200, "END This amount is below or above what can be paid."),
        ({"serviceCode": "*999#"}, 200, "END This service code is not in use."),
        ({"phoneNumber": "nobody"}, 400, "phoneNumber: must be"),
        ({"sessionId": "<script>"}, 400, "sessionId: must be"),
        ({"sessionId": "absent"}, 400, "sessionId: missing"),
        ({"text": "absent"}, 400, "text: missing"),
    ],
)
def test_ussd_rubbish(cluster: Layout, operator: Caller, form: dict[str, str], status: int, complaint: str) -> None:
    before = transfers_total(cluster, operator)
    answer = post(cluster, form)
    assert (answer.status_code, complaint in answer.text) == (status, True), answer.text
    assert transfers_total(cluster, operator) == before


def test_http_rubbish(cluster: Layout, operator: Caller) -> None:
    url = f"http://{cluster.edge_address}"
    assert httpx.get(f"{url}/livez").text == "ok"
    assert httpx.get(f"{url}/healthz").text == "ok"
    assert httpx.get(f"{url}/ussd/africastalking").status_code == 405
    assert httpx.post(f"{url}/ussd/other").status_code == 404
    assert httpx.post(f"{url}/ussd/africastalking", content=b"\xff\xfe").status_code == 400
    assert httpx.post(f"{url}/ussd/africastalking", content=b"a=1&a=2").status_code == 400
    assert httpx.post(f"{url}/ussd/africastalking", content=b"x" * 70_000).status_code == 413
